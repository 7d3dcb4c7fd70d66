# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked before a replica is changed while its primary does not respond."""

from __future__ import annotations

import pytest
from cases import HOST, ROLE, Results, run_cases

# The volume that the container has, and the text of the error.
CASES = {"deployment": ("devpi-data-7", ""), "upgrade": ("devpi-data", "does not respond")}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    cases = {}
    for name, (volume, _text) in CASES.items():
        labels = {"devpi.mirror.replication": "replica"}
        container = {"volumes": [volume], "labels": labels, "running": True, "image": "a"}
        cases[name] = {
            "tested_tasks": str(ROLE / "tasks" / "preflight" / "replication.yml"),
            "ansible_become": False,
            "devpi_server_role": "replica",
            "devpi_server_release": "7",
            "devpi_server_primary_url": "http://127.0.0.1:1",
            "devpi_server_replication_secret": "secret",
            "__devpi_server_host": {**HOST, "container": container, "volumes": [volume], "image_present": True},
        }
    return run_cases(tmp_path_factory.mktemp("preflight"), cases)


@pytest.mark.parametrize("case", CASES)
def test_only_an_upgrade_needs_the_primary(results: dict[str, Results], case: str) -> None:
    text = CASES[case][1]
    failed = [result["msg"] for result in results[case].values() if result.get("failed")]
    assert [text in message for message in failed] == [True] * bool(text), failed


@pytest.mark.parametrize("is_role_change", [False, True])
def test_a_stopped_former_primary_of_an_earlier_release_follows(tmp_path: Path, is_role_change: bool) -> None:
    results = run_tasks(
        tmp_path,
        ROLE / "tasks" / "preflight" / "apply.yml",
        ansible_become=False,
        devpi_server_init="systemd",
        devpi_server_role="replica",
        devpi_server_release="7",
        __devpi_server_is_role_change=is_role_change,
        __devpi_server_host={**HOST, "volumes": ["devpi-data"], "image_present": True, "file_contents": {}},
    )
    failed = [result["msg"] for result in results.values() if result.get("failed")]
    refused = [message for message in failed if "no mirror that uses it is running" in message]
    assert len(refused) == (not is_role_change), failed
    assert is_role_change or len(failed) == 1, failed
