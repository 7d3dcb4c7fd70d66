# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image the role chooses, with the real templating in one run, as each takes seconds."""

from __future__ import annotations

import datetime
import io
import json
import re
import tarfile
from typing import Any

import pytest
from cases import ROLE, last_result, run_cases

# What the role's files are hashed to in these tests.
FAMILY = "devpi-mirror:0123456789abcdef"


def host(*images: str, runs: str = "", others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what host_info reports of a host with these images of the role: one runs, other containers use ``others``."""
    return {
        "container": {"image": runs} if runs else None,
        "image_present": False,
        "images": [{"name": name, "is_used_by_others": name in others} for name in images],
        "engine": {},
        "existing_paths": [],
        "memory": 0,
        "mirrors": [
            {"name": "devpi", "image": "devpi-mirror:of-this-mirror"},
            {"name": "other", "image": "devpi-mirror:of-another"},
        ],
    }


# The variables that the tests read.
NAMES = {
    "image": "__devpi_server_image",
    "base": "__devpi_server_debian_base",
    "fallback": "__devpi_server_fallback",
    "invalid": "__devpi_server_invalid_values",
    "removable": "__devpi_server_removable_images",
    "missing_tools": "__devpi_server_missing_build_tools",
}
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "october": {"devpi_server_image_refresh": "2026-10"},
    "number": {"devpi_server_image_refresh": 202610},
    "never": {"devpi_server_image_refresh": ""},
    "null": {"devpi_server_image_refresh": None},
    "slash": {"devpi_server_image_refresh": "2026/10"},
    "socks": {
        "devpi_server_http_proxy": "http://bob:s3cret@proxy.example:3128",
        "devpi_server_https_proxy": "socks5://bob:s3cret@proxy.example:1080",
    },
    "named": {
        "devpi_server_image": "example.com/devpi:1",
        "__devpi_server_host": host(f"{FAMILY}-2026-10", runs=f"{FAMILY}-2026-10"),
    },
    "loaded": {"devpi_server_image_source": "load", "devpi_server_image_archive": f"{FAMILY}-2026-10"},
    "loaded-other-inputs": {"devpi_server_image_source": "load", "devpi_server_image_archive": "devpi-mirror:fedc-2026-10"},
    "runs-an-older-one": {"__devpi_server_host": host(f"{FAMILY}-2026-11", f"{FAMILY}-2026-10", runs=f"{FAMILY}-2026-10")},
    "unused-images": {
        "devpi_server_image_refresh": "2026-11",
        "__devpi_server_host": host(
            f"{FAMILY}-2026-11",
            f"{FAMILY}-2026-10",
            "devpi-mirror:earlier",
            "devpi-mirror:of-this-mirror",
            "devpi-mirror:of-another",
            "devpi-mirror:in-use",
            "devpi-mirror-base:trixie-2026-11",
            "devpi-mirror-base:trixie-2026-10",
            "devpi-mirror-base:bookworm",
            "example.com/built-on-devpi-mirror:1",
            runs=f"{FAMILY}-2026-10",
            others=("devpi-mirror:in-use",),
        ),
    },
    "has-tar-alone": {"__devpi_server_host": {**host(), "existing_paths": ["/bin/tar", "/usr/bin/tar"]}},
    "has-tools": {"__devpi_server_host": {**host(), "existing_paths": ["/bin/tar", "/usr/bin/base64"]}},
    "runs-none": {"__devpi_server_host": host("devpi-mirror:fedc-2026-12", f"{FAMILY}-2026-11", f"{FAMILY}-2026-10")},
    "runs-one-of-other-inputs": {
        "__devpi_server_host": host("devpi-mirror:fedc-2026-11", f"{FAMILY}0", runs="devpi-mirror:fedc-2026-11")
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what the role chooses in each case."""
    folder = tmp_path_factory.mktemp("images")
    shared = {
        "tested_tasks": str(ROLE / "tasks" / "image" / "choose.yml"),
        "names": list(NAMES.values()),
        "__devpi_server_image_candidates": "{{ __devpi_server_unused_images }}",
        "__devpi_server_image_hash": FAMILY.split(":")[1],
        "devpi_server_init": "none",
    }
    cases = {name: {**shared, **variables} for name, variables in CASES.items()}
    for name, variables in cases.items():
        archived = variables.get("devpi_server_image_archive")
        if archived:
            manifest = json.dumps([{"RepoTags": [archived]}]).encode()
            variables["devpi_server_image_archive"] = str(folder / f"{name}.tar")
            with tarfile.open(folder / f"{name}.tar", "w") as tar:
                member = tarfile.TarInfo("manifest.json")
                member.size = len(manifest)
                tar.addfile(member, io.BytesIO(manifest))
    found = {name: last_result(results)["msg"] for name, results in run_cases(folder, cases).items()}
    chosen = {name: {key: values[variable] for key, variable in NAMES.items()} for name, values in found.items()}
    for values in chosen.values():
        values["removable"].sort()
    return chosen


def test_the_default_is_the_month(chosen):
    today = datetime.datetime.now(datetime.UTC)
    # The test can run over the end of a month.
    months = {(today - datetime.timedelta(days=days)).strftime("%Y-%m") for days in (0, 1)}
    assert chosen["default"]["image"] in {f"{FAMILY}-{month}" for month in months}
    assert chosen["default"]["base"].endswith(chosen["default"]["image"][len(FAMILY) :])


@pytest.mark.parametrize(
    ("case", "image", "base"),
    [
        ("october", f"{FAMILY}-2026-10", "devpi-mirror-base:trixie-2026-10"),
        ("number", f"{FAMILY}-202610", "devpi-mirror-base:trixie-202610"),
        ("never", FAMILY, "devpi-mirror-base:trixie"),
        ("null", FAMILY, "devpi-mirror-base:trixie"),
    ],
)
def test_the_refresh_value_is_part_of_the_names(chosen, case, image, base):
    assert (chosen[case]["image"], chosen[case]["base"]) == (image, base)
    assert chosen[case]["invalid"] == []


def test_a_value_that_is_no_part_of_a_name(chosen):
    (message,) = chosen["slash"]["invalid"]
    assert message.startswith("devpi_server_image_refresh is '2026/10': ")


def test_a_proxy_that_is_no_http_proxy(chosen):
    (message,) = chosen["socks"]["invalid"]
    assert message.startswith("devpi_server_https_proxy is 'socks5://***@proxy.example:1080': ")


def test_a_name_of_the_users_own(chosen):
    assert chosen["named"]["image"] == "example.com/devpi:1"


def test_the_image_of_an_archive_is_used_whatever_its_refresh_value(chosen):
    assert chosen["loaded"]["image"] == f"{FAMILY}-2026-10"
    # The role needs one that it does not have.
    assert re.fullmatch(rf"{FAMILY}-\d{{4}}-\d\d", chosen["loaded-other-inputs"]["image"])


@pytest.mark.parametrize(
    ("case", "fallback"),
    [
        ("default", ""),
        ("runs-an-older-one", f"{FAMILY}-2026-10"),
        ("runs-none", f"{FAMILY}-2026-11"),
        ("runs-one-of-other-inputs", ""),
        ("named", ""),
    ],
)
def test_the_fallback_has_the_same_inputs(chosen, case, fallback):
    assert chosen[case]["fallback"] == fallback


@pytest.mark.parametrize(
    ("case", "missing"), [("runs-none", ["base64", "tar"]), ("has-tar-alone", ["base64"]), ("has-tools", [])]
)
def test_the_commands_that_a_build_needs(chosen, case, missing):
    assert chosen[case]["missing_tools"] == missing


def test_images_that_no_mirror_uses_are_removed(chosen):
    assert chosen["default"]["removable"] == []
    assert chosen["unused-images"]["removable"] == [
        "devpi-mirror-base:bookworm",
        "devpi-mirror-base:trixie-2026-10",
        f"{FAMILY}-2026-10",
        "devpi-mirror:earlier",
        "devpi-mirror:of-this-mirror",
    ]
