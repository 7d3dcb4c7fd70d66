# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._polling import Backoff, poll, within


class Time:
    """A clock that only advances by sleeps and probes."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def run(results, backoff, duration=0.0, definitive=()):
    """Poll a probe that returns ``results`` one after the other, each after ``duration`` seconds or its limit.

    The result "more" has progressed.
    """
    time = Time()
    limits = []
    reported = []
    remaining = list(results)

    def probe(limit):
        limits.append(limit)
        time.now += min(duration, limit)
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    outcome = poll(
        probe,
        is_done=lambda result: result == "yes",
        is_definitive=lambda result: result in definitive,
        is_inconclusive=lambda result: result == "late",
        backoff=backoff,
        clock=time.clock,
        sleep=time.sleep,
        on_result=lambda after, result: reported.append((after, result)),
        has_progressed=lambda result: result == "more",
    )
    return outcome, time, limits, reported


def test_immediate_success():
    outcome, time, _limits, reported = run(["yes"], Backoff(timeout=60))
    assert (outcome.result, outcome.attempts, outcome.elapsed) == ("yes", 1, 0)
    assert time.slept == []
    assert reported == [(0, "yes")]


def test_delays_grow_to_the_maximum():
    outcome, time, _limits, _reported = run(["no"] * 9 + ["yes"], Backoff(timeout=60, delay=1, max_delay=4))
    assert outcome.result == "yes"
    assert outcome.attempts == 10
    assert time.slept == pytest.approx([1, 1.5, 2.25, 3.375, 4, 4, 4, 4, 4])


def test_ends_at_the_deadline():
    outcome, time, limits, _reported = run(
        ["no"], Backoff(timeout=7, request_timeout=3, delay=2, max_delay=2), duration=3
    )
    assert outcome.result == "no"
    assert time.now == 1007
    assert outcome.elapsed == 7
    # The second attempt is limited to the remaining two seconds.
    assert limits == [3, 2]


def test_timeout_of_zero_probes_once():
    outcome, time, limits, _reported = run(["no"], Backoff(timeout=0, request_timeout=3), duration=1)
    assert (outcome.result, outcome.attempts) == ("no", 1)
    assert limits == [3]
    assert time.slept == []


def test_delay_is_limited_to_the_remaining_time():
    _outcome, time, _limits, _reported = run(["no"], Backoff(timeout=5, delay=4, max_delay=4))
    assert time.slept == [4, 1]
    assert time.now == 1005


def test_inconclusive_last_attempt_does_not_replace_the_previous_result():
    backoff = Backoff(timeout=10, request_timeout=6, delay=2, max_delay=2)
    outcome, _time, limits, reported = run(["no", "late"], backoff, duration=6)
    assert limits == [6, 2]
    assert outcome.result == "no"
    assert [result for _after, result in reported] == ["no", "late"]


def test_complete_attempt_that_is_too_slow_counts():
    backoff = Backoff(timeout=14, request_timeout=6, delay=2, max_delay=2)
    outcome, _time, limits, _reported = run(["no", "late"], backoff, duration=6)
    assert limits == [6, 6]
    assert outcome.result == "late"


def test_persistent_definitive_failure_ends_early():
    backoff = Backoff(timeout=600, delay=1, max_delay=1, confirm_failure=5)
    outcome, time, _limits, _reported = run(["no", "never"], backoff, definitive=["never"])
    assert outcome.result == "never"
    assert time.now == 1006


def test_temporary_definitive_failure_does_not_end_early():
    backoff = Backoff(timeout=600, delay=1, max_delay=1, confirm_failure=5)
    outcome, _time, _limits, _reported = run(
        ["never"] * 4 + ["no"] + ["never"] * 4 + ["yes"], backoff, definitive=["never"]
    )
    assert outcome.result == "yes"


def test_progress_starts_the_timeout_anew():
    backoff = Backoff(timeout=10, delay=1, max_delay=1)
    outcome, time, _limits, _reported = run(["no"] * 5 + ["more", "no"], backoff)
    assert outcome.result == "no"
    assert time.now == 1015


def test_within_returns_the_result():
    assert within(30, lambda: "done", "late") == "done"


def test_within_raises_exceptions():
    with pytest.raises(ZeroDivisionError):
        within(30, lambda: str(1 // 0), "late")


def test_within_does_not_wait_longer():
    event = threading.Event()
    try:
        assert within(0.01, lambda: str(event.wait(30)), "late") == "late"
    finally:
        event.set()
