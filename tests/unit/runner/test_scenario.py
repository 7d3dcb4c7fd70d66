# SPDX-License-Identifier: GPL-3.0-or-later
"""Which actions of a scenario run for a selection of tests."""

from __future__ import annotations

import pytest
from runner import scenario

MOLECULE_YML = """\
scenario:
  test_sequence:
    - destroy
    - create
    - prepare
    - verify ../shared/bare.yml
    - converge
    - idempotence
    - side_effect
    - verify
    - side_effect small_disk.yml
    - side_effect fill_disk.yml
    - verify disk.yml
    - verify servers.yml
    - cleanup
    - destroy
"""


@pytest.fixture(autouse=True)
def molecule(tmp_path, monkeypatch):
    files = tmp_path / "faults" / "files"
    files.mkdir(parents=True)
    (tmp_path / "faults" / "molecule.yml").write_text(MOLECULE_YML)
    (files / "test_disk.py").write_text("def test_full():\n    pass\n\n\ndef test_damaged():\n    pass\n")
    (files / "test_servers.py").write_text("def test_killed():\n    pass\n")
    monkeypatch.setattr(scenario, "MOLECULE", tmp_path)
    return tmp_path


SETUP = ["create", "prepare", "converge", "side_effect"]
DISK = ["side_effect small_disk.yml", "side_effect fill_disk.yml", "verify disk.yml"]


@pytest.mark.parametrize(
    ("tests", "actions"),
    [
        ("disk", DISK),
        ("test_disk", DISK),
        ("test_full or test_killed", [*DISK, "verify servers.yml"]),
        ("servers", ["verify servers.yml"]),
        ("verify", ["verify"]),
    ],
)
def test_the_setup_and_the_selected_tests_run(tests, actions):
    assert scenario.select("faults", tests) == [*SETUP, *actions]


def test_actions_after_the_selected_tests_do_not_run():
    assert scenario.select("faults", "bare") == ["create", "prepare", "verify ../shared/bare.yml"]


def test_an_unknown_test_is_rejected_with_a_list_of_existing_ones():
    with pytest.raises(SystemExit, match="Choose one of bare, disk, servers, verify"):
        scenario.select("faults", "test_nothing")


@pytest.mark.usefixtures("molecule")
def test_the_laid_out_scenario_runs_the_selection():
    scenario.write_sequence("faults", ["create", "verify disk.yml"])
    assert scenario.test_sequence("faults") == ["create", "verify disk.yml"]
