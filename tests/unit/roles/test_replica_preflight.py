# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked before a replica or a former primary is changed or promoted."""

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


@pytest.fixture(scope="module")
def orphaned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """The results on a host with the volume of an earlier release, which no container uses."""
    cases = {
        name: {
            "tested_tasks": str(ROLE / "tasks" / "preflight" / "apply.yml"),
            "ansible_become": False,
            "devpi_server_init": "systemd",
            "devpi_server_role": "replica",
            "devpi_server_release": "7",
            "__devpi_server_is_role_change": is_role_change,
            "__devpi_server_host": {**HOST, "volumes": ["devpi-data"], "image_present": True, "file_contents": {}},
        }
        for name, is_role_change in (("deployment", False), ("role-change", True))
    }
    return run_cases(tmp_path_factory.mktemp("orphaned"), cases)


@pytest.mark.parametrize(("case", "is_refused"), [("deployment", True), ("role-change", False)])
def test_a_stopped_former_primary_of_an_earlier_release_follows(
    orphaned: dict[str, Results], case: str, is_refused: bool
) -> None:
    failed = [result["msg"] for result in orphaned[case].values() if result.get("failed")]
    assert any("no mirror that uses it is running" in message for message in failed) is is_refused, failed


# What a replica of release 6 runs with, and whether its promotion would upgrade it.
PROMOTIONS = {"promotion": ("6", False), "promotion-and-upgrade": ("7", True)}
STATE = {"role": "replica", "primary_uuid": "one", "primary_url": "https://one", "serial": 5, "release": 6}


@pytest.fixture(scope="module")
def promotions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    container = {"volumes": ["devpi-data"], "running": True, "image": "a"}
    engine = {"engine": {**HOST["engine"], "command": "/bin/false"}}
    cases = {
        name: {
            "tested_tasks": str(ROLE / "tasks" / "replication" / "promote.yml"),
            "ansible_become": False,
            "devpi_server_release": release,
            "devpi_server_replication_state": STATE,
            "__devpi_server_host": {**HOST, **engine, "container": container, "volumes": ["devpi-data"]},
        }
        for name, (release, _is_refused) in PROMOTIONS.items()
    }
    return run_cases(tmp_path_factory.mktemp("promotions"), cases)


@pytest.mark.parametrize("case", PROMOTIONS)
def test_a_promotion_does_not_upgrade(promotions: dict[str, Results], case: str) -> None:
    failed = {name: result["msg"] for name, result in promotions[case].items() if result.get("failed")}
    if PROMOTIONS[case][1]:
        (message,) = failed.values()
        assert "runs release 6, and a promotion does not upgrade" in message
    else:
        # The next task, which can't read from the container.
        (name,) = failed
        assert name.endswith("Check whether the primary responds, and which private files are missing")
