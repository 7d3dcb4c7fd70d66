# SPDX-License-Identifier: GPL-3.0-or-later
"""The option min_release_age of devpi_index with upstreams that list upload times, and with others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Server, only

pytestmark = only(has_image_plugin=True)
# Why an upstream is refused, by the folder of the upstream and the project with which the module checks it.
REFUSED = {
    ("undated/", "pip"): "lists no upload times",
    ("simple/", "other"): "has no project other",
    ("broken/", "pip"): "Could not check whether the upstream of ada/dev lists upload times",
}


@pytest.fixture(autouse=True)
def removed_index(server: Server, ada: None) -> Iterator[None]:
    """Remove the index ada/dev after each test."""
    yield
    server.remove_index("ada/dev")


def settings_of(server: Server) -> Any:
    return server.apply("devpi_index_info", name="ada/dev")["indexes"].get("ada/dev")


def refuse(server: Server, message: str, **options: Any) -> None:
    before = settings_of(server)
    result = server.run("devpi_index", name="ada/dev", **options)
    assert result["failed"]
    assert message in result["msg"]
    assert "Nothing was changed." in result["msg"]
    assert settings_of(server) == before


@pytest.mark.parametrize(("folder", "project"), REFUSED)
@pytest.mark.parametrize("volatile", [False, True])
def test_a_new_index_is_refused(server: Server, upstream: str, folder: str, project: str, volatile: bool) -> None:
    options = {"type": "mirror", "mirror_url": upstream + folder, "min_release_age": "7d", "volatile": volatile}
    refuse(server, REFUSED[folder, project], **options, upload_time_project=project)


@pytest.mark.parametrize(("folder", "project"), REFUSED)
def test_a_minimum_age_is_refused(server: Server, upstream: str, folder: str, project: str) -> None:
    server.apply("devpi_index", name="ada/dev", type="mirror", mirror_url=upstream + folder, block=["evil-*"])
    # The title was not set before.
    options = {"min_release_age": "7d", "block": ["bad-*"], "title": "x", "mirror_no_project_list": True}
    refuse(server, REFUSED[folder, project], **options, upload_time_project=project)


def test_another_upstream_is_refused(server: Server, upstream: str) -> None:
    mirror = {"type": "mirror", "mirror_url": f"{upstream}simple/", "min_release_age": "7d", "title": "x"}
    server.apply("devpi_index", name="ada/dev", **mirror)
    refuse(server, "lists no upload times", mirror_url=f"{upstream}undated/", title="y")


def test_an_upstream_with_upload_times_is_accepted(server: Server, upstream: str) -> None:
    server.apply("devpi_index", name="ada/dev", type="mirror", mirror_url=f"{upstream}simple/")
    change = server.change("devpi_index", name="ada/dev", min_release_age="7d")
    assert change.actual["settings"]["min_release_age"] == "7d"
    policy = server.send("/ada/dev/+policy/pip")
    assert (policy["listed"], policy["hidden"]) == (1, [])
    server.apply("devpi_index", name="ada/dev", min_release_age="36500d")
    (hidden,) = server.send("/ada/dev/+policy/pip")["hidden"]
    assert hidden["rule"] == "min_release_age: 36500d"


def test_the_exceptions_need_no_upload_times(server: Server, upstream: str) -> None:
    server.apply("devpi_index", name="ada/dev", type="mirror", mirror_url=f"{upstream}undated/")
    assert server.apply("devpi_index", name="ada/dev", min_release_age="7d", min_release_age_exceptions=["pip"])[
        "changed"
    ]
