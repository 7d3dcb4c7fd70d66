# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of the primary reports, with a docker command that only records its arguments."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from test_scheduled_backups import HOST, ROLE, run_tasks

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


@pytest.fixture
def permit(tmp_path: Path) -> Any:
    """Run the tasks, and return their results by names, and the arguments of the permission."""

    def run_permit(output: str, followed: dict[str, Any], *options: str, **host: Any) -> tuple[dict[str, Any], str]:
        docker = tmp_path / "docker"
        docker.write_text(DOCKER.format(folder=tmp_path, output=output))
        docker.chmod(0o755)
        (tmp_path / "calls").write_text("")
        results = run_tasks(
            tmp_path,
            PERMIT,
            *options,
            ansible_become=False,
            devpi_server_role="replica",
            devpi_server_primary_url="https://pypi-2.example.com/",
            devpi_server_image="devpi-mirror:0f3c",
            devpi_server_replication_secret="secret",
            __devpi_server_followed=followed,
            __devpi_server_host={
                **HOST,
                "image_present": True,
                **host,
                "engine": {**HOST["engine"], "command": str(docker)},
            },
        )
        (arguments,) = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("run ")] or [
            ""
        ]
        return {name.removeprefix(PREFIX): result for name, result in results.items()}, arguments

    return run_permit


@pytest.mark.parametrize(
    ("output", "text"),
    [("replaced", "with new data. Its previous data"), ("continues", "and continue"), ("unchanged", "")],
)
def test_check_mode_reports_what_a_run_reports(tmp_path: Path, permit: Any, output: str, text: str) -> None:
    (tmp_path / "volume").touch()
    options = " permit --primary-url https://pypi-2.example.com --primary-uuid of-promoted --previous-uuid of-failed --serial 7"
    options += f" --secret-hash {sha256(b'secret').hexdigest()}"
    checked, arguments = permit(output, REPLICA, "--check")
    assert arguments.endswith(f"{options} --dry-run")
    done, arguments = permit(output, PROMOTED)
    assert arguments.endswith(options)
    for results in (checked, done):
        assert results["Permit this server to follow the promoted one"]["changed"] is (output != "unchanged")
        assert text in results["Report what happens to the data"].get("msg", "")
        assert results["Report what is unknown"]["skipped"]


def test_check_mode_creates_no_volume(tmp_path: Path, permit: Any) -> None:
    results, arguments = permit("replaced", REPLICA, "--check")
    assert arguments == ""
    assert results["Report what is unknown"]["skipped"]
    # Without the image, it can't check more.
    (tmp_path / "volume").touch()
    results, arguments = permit("replaced", REPLICA, "--check", image_present=False)
    assert arguments == ""
    assert results["Report what is unknown"]["changed"]
