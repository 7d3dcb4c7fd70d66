# SPDX-License-Identifier: GPL-3.0-or-later
"""The output about a failed step, and the counts."""

from __future__ import annotations

import pytest
from runner.report import Report, failure_excerpt

PLAY = """\
PLAY [Converge] ****
TASK [Try what must fail] ****
fatal: [host]: FAILED! => expected
...ignoring
TASK [Install] ****
Thursday 26 November 2026  09:00:00 +0000
ok: [host]
TASK [Start] ****
fatal: [host]: FAILED! => {"msg": "no such unit"}
more of it
TASK [Clean up] ****
ok: [host]
PLAY RECAP ****
""".splitlines()


def test_the_first_failed_task_is_shown_with_its_name_and_output():
    excerpt = failure_excerpt(PLAY)
    assert excerpt[:3] == ["TASK [Start] ****", 'fatal: [host]: FAILED! => {"msg": "no such unit"}', "more of it"]
    assert excerpt[-1] == "PLAY RECAP ****"
    assert "TASK [Install] ****" not in excerpt


def test_failed_tests_are_shown_first():
    summary = "FAILED test_cache.py::test_ranges - assert 1 == 2"
    assert failure_excerpt([*PLAY[:9], f"        {summary}", *PLAY[9:]])[:2] == [summary, "TASK [Start] ****"]
    assert failure_excerpt(["start", summary])[0] == summary


def test_a_log_without_tasks_is_shown_from_its_end():
    lines = [str(number) for number in range(1000)]
    assert failure_excerpt(lines) == lines[-150:]


@pytest.mark.parametrize(("ci", "counts"), [("true", (0, 1, 0)), ("", (0, 0, 1))])
def test_a_skipped_step_counts_as_failed_in_ci(monkeypatch, capsys, ci, counts):
    monkeypatch.setenv("CI", ci)
    report = Report()
    report.skip("unit: Python 3.8", "it is not installed")
    assert (report.passed, report.failed, report.skipped) == counts
    assert "SKIPPED" in capsys.readouterr().out


def test_the_summary_names_the_slowest_steps_and_ends_with_the_counts(tmp_path, capsys):
    report = Report()
    log = tmp_path / "log"
    log.write_text("Traceback\n")
    for seconds in range(12):
        report.add(f"step {seconds}", "" if seconds else "exit code 1", seconds, log)
    report.print_summary(100, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    slowest = lines[lines.index("Slowest of 12 steps:") + 1 :][:10]
    assert [line.split("  ")[-1] for line in slowest] == [f"step {seconds}" for seconds in range(11, 1, -1)]
    assert lines[-1] == "11 passed, 1 failed"
    assert "    Traceback" in lines
