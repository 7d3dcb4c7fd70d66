# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of steps, and steps whose prerequisites fail."""

from __future__ import annotations

import pytest
from runner.report import Report
from runner.schedule import Schedule
from runner.step import Step


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run steps, each of which records its start and its end, and return the report and the records."""
    monkeypatch.setenv("CI", "true")
    record = tmp_path / "record"

    def run_steps(steps, lanes=2):
        record.write_text("")
        report = Report()
        schedule = Schedule(steps, {"PATH": "/usr/bin:/bin", "RECORD": str(record)}, report, tmp_path)
        schedule.run(lanes)
        return report, record.read_text().split("\n")[:-1]

    return run_steps


def step(name, needs=(), lock="", seconds=1.0, code=0, script="", folder="/"):
    command = f'echo "{name} starts" >>$RECORD; {script} echo "{name} ends" >>$RECORD; exit {code}'
    return Step("kind", name, ["sh", "-c", command], needs, lock, seconds, folder)


def test_a_step_runs_after_its_prerequisites(run):
    report, record = run([step("scenario", needs=("host",)), step("host", needs=("docker",)), step("docker")])
    assert [line for line in record if "starts" in line] == ["docker starts", "host starts", "scenario starts"]
    assert (report.passed, report.failed) == (3, 0)


def test_a_step_whose_prerequisite_fails_does_not_run_and_counts_as_failed(run):
    report, record = run(
        [step("docker", code=3), step("host", needs=("docker",)), step("scenario", needs=("host",)), step("lint")]
    )
    assert not [line for line in record if line.startswith(("host", "scenario"))]
    assert (report.passed, report.failed) == (1, 3)


def test_steps_with_the_same_lock_do_not_overlap(run):
    _report, record = run([step(name, lock="one", script="sleep 0.2;") for name in "abc"], lanes=3)
    assert [line.split()[1] for line in record] == ["starts", "ends"] * 3


def test_steps_without_a_lock_run_concurrently(run):
    # Each waits until the other has started.
    wait = "until [ $(grep -c starts $RECORD) = 2 ]; do sleep 0.05; done;"
    report, _record = run([step("a", script=wait), step("b", script=wait)])
    assert report.passed == 2


def test_the_step_with_the_longest_chain_starts_first(run):
    steps = [
        step("short"),
        step("long", seconds=5),
        step("needed", seconds=2),
        step("last", needs=("needed",), seconds=9),
    ]
    _report, record = run(steps, lanes=1)
    assert [line for line in record if "starts" in line] == [
        "needed starts",
        "last starts",
        "long starts",
        "short starts",
    ]


def test_two_steps_with_the_same_name_are_rejected(run):
    with pytest.raises(ValueError, match="same name"):
        run([step("a"), step("a")])


def test_a_step_that_hangs_is_terminated(run, monkeypatch):
    monkeypatch.setattr("runner.schedule.STEP_LIMIT", 0.5)
    report, record = run([step("hangs", script="sleep 600;", seconds=0.1), step("long", script="sleep 1;", seconds=60)])
    assert report.failed == 1
    assert "hangs ends" not in record
    assert "long ends" in record
