# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of the primary reports, with a docker command that only records its arguments."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cases import HOST, ROLE, Results, run_cases

PERMIT = ROLE / "tasks" / "replication" / "permit.yml"
PREFIX = "Replication | Permit | "
DOCKER = """#!/bin/sh
echo "$*" >>"{folder}/calls"
case $1 in
volume) [ -e "{folder}/volume" ] ;;
run) echo {output} ;;
esac
"""
PROMOTED = {"role": "primary", "uuid": "of-promoted", "promotion": {"previous_uuid": "of-failed", "serial": 7}}
# In check mode, the replica that is to be promoted.
REPLICA = {"role": "replica", "uuid": "of-promoted", "primary_uuid": "of-failed", "serial": 7, "promotion": None}


# What the command prints, and the text of the report.
OUTPUTS = {"replaced": "with new data. Its previous data", "continues": "and continue", "unchanged": ""}
Found = tuple[dict[str, Results], dict[str, str]]


def permit(folder: Path, cases: dict[str, tuple[str, bool, bool]], followed: dict[str, Any], *options: str) -> Found:
    """Run the tasks, and return the results by case and by the names of tasks, and the arguments of the permission by case.

    A case has the output of the command, and a volume and an image or not.
    """
    variables: dict[str, dict[str, Any]] = {}
    for name, (output, has_volume, has_image) in cases.items():
        case = folder / name
        case.mkdir()
        docker = case / "docker"
        docker.write_text(DOCKER.format(folder=case, output=output))
        docker.chmod(0o755)
        (case / "calls").write_text("")
        if has_volume:
            (case / "volume").touch()
        variables[name] = {
            "tested_tasks": str(PERMIT),
            "ansible_become": False,
            "devpi_server_role": "replica",
            "devpi_server_primary_url": "https://pypi-2.example.com/",
            "devpi_server_image": "devpi-mirror:0f3c",
            "devpi_server_replication_secret": "secret",
            "__devpi_server_followed": followed,
            "__devpi_server_host": {
                **HOST,
                "image_present": has_image,
                "engine": {**HOST["engine"], "command": str(docker)},
            },
        }
    results = {
        name: {task.removeprefix(PREFIX): result for task, result in found.items()}
        for name, found in run_cases(folder, variables, *options).items()
    }
    arguments = {}
    for name in cases:
        calls = (folder / name / "calls").read_text().splitlines()
        (arguments[name],) = [line for line in calls if line.startswith("run ")] or [""]
    return results, arguments


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Found:
    cases = {output: (output, True, True) for output in OUTPUTS}
    cases |= {"no-volume": ("replaced", False, True), "no-image": ("replaced", True, False)}
    return permit(tmp_path_factory.mktemp("checked"), cases, REPLICA, "--check")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return permit(tmp_path_factory.mktemp("done"), {output: (output, True, True) for output in OUTPUTS}, PROMOTED)


@pytest.mark.parametrize("output", OUTPUTS)
def test_check_mode_reports_what_a_run_reports(checked: Found, done: Found, output: str) -> None:
    options = " permit --primary-url https://pypi-2.example.com --primary-uuid of-promoted --previous-uuid of-failed --serial 7"
    options += f" --secret-hash {sha256(b'secret').hexdigest()}"
    assert checked[1][output].endswith(f"{options} --dry-run")
    assert done[1][output].endswith(options)
    for results, _arguments in (checked, done):
        result = results[output]
        assert result["Permit this server to follow the promoted one"]["changed"] is (output != "unchanged")
        assert OUTPUTS[output] in result["Report what happens to the data"].get("msg", "")
        assert result["Report what is unknown"]["skipped"]


def test_check_mode_creates_no_volume(checked: Found) -> None:
    results, arguments = checked
    assert (arguments["no-volume"], arguments["no-image"]) == ("", "")
    assert results["no-volume"]["Report what is unknown"]["skipped"]
    # Without the image, it can't check more.
    assert results["no-image"]["Report what is unknown"]["changed"]
