"""Which parts of a scenario are run for a selection of tests."""

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
    - verify
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


@pytest.mark.parametrize(
    ("tests", "verifications"),
    [
        ("disk", ["verify disk.yml"]),
        ("test_disk", ["verify disk.yml"]),
        ("test_full or test_killed", ["verify disk.yml", "verify servers.yml"]),
        ("verify", ["verify"]),
    ],
)
def test_the_set_up_and_the_selected_tests_are_run(tests, verifications):
    assert scenario.select("faults", tests) == ["create", "prepare", "converge", *verifications]


def test_what_comes_after_the_selected_tests_is_left_out():
    assert scenario.select("faults", "bare") == ["create", "prepare", "verify ../shared/bare.yml"]


def test_an_unknown_test_is_refused_with_a_list_of_what_exists():
    with pytest.raises(SystemExit, match="Choose one of bare, disk, servers, verify"):
        scenario.select("faults", "test_nothing")


def test_the_laid_out_scenario_runs_the_selection(molecule):
    scenario.write_sequence("faults", ["create", "verify disk.yml"])
    assert scenario.test_sequence("faults") == ["create", "verify disk.yml"]
