# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._polling import Pace, poll, within


class Time:
    """A clock that only a sleep, or a probe that takes its time, moves on."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


def run(results, pace, takes=0.0, hopeless=()):
    """Poll a probe that gives ``results`` one after the other, each after ``takes`` seconds or its limit."""
    time = Time()
    limits = []
    seen = []
    left = list(results)

    def probe(limit):
        limits.append(limit)
        time.now += min(takes, limit)
        return left.pop(0) if len(left) > 1 else left[0]

    outcome = poll(
        probe,
        done=lambda result: result == "yes",
        hopeless=lambda result: result in hopeless,
        unfinished=lambda result: result == "late",
        pace=pace,
        clock=time.clock,
        sleep=time.sleep,
        seen=lambda after, result: seen.append((after, result)),
    )
    return outcome, time, limits, seen


def test_ready_at_once():
    outcome, time, _limits, seen = run(["yes"], Pace(timeout=60))
    assert (outcome.result, outcome.attempts, outcome.elapsed) == ("yes", 1, 0)
    assert time.slept == []
    assert seen == [(0, "yes")]


def test_pauses_grow_to_the_longest():
    outcome, time, _limits, _seen = run(["no"] * 9 + ["yes"], Pace(timeout=60, delay=1, max_delay=4))
    assert outcome.result == "yes"
    assert outcome.attempts == 10
    assert time.slept == pytest.approx([1, 1.5, 2.25, 3.375, 4, 4, 4, 4, 4])


def test_ends_at_the_deadline_and_not_after():
    outcome, time, limits, _seen = run(["no"], Pace(timeout=7, request_timeout=3, delay=2, max_delay=2), takes=3)
    assert outcome.result == "no"
    assert time.now == 1007
    assert outcome.elapsed == 7
    # The second try is cut to the two seconds that are left.
    assert limits == [3, 2]


def test_a_timeout_of_zero_looks_once():
    outcome, time, limits, _seen = run(["no"], Pace(timeout=0, request_timeout=3), takes=1)
    assert (outcome.result, outcome.attempts) == ("no", 1)
    assert limits == [3]
    assert time.slept == []


def test_a_pause_is_cut_to_what_is_left():
    _outcome, time, _limits, _seen = run(["no"], Pace(timeout=5, delay=4, max_delay=4))
    assert time.slept == [4, 1]
    assert time.now == 1005


def test_a_last_try_that_was_cut_short_does_not_hide_what_was_seen_before():
    pace = Pace(timeout=10, request_timeout=6, delay=2, max_delay=2)
    outcome, _time, limits, seen = run(["no", "late"], pace, takes=6)
    assert limits == [6, 2]
    assert outcome.result == "no"
    assert [result for _after, result in seen] == ["no", "late"]


def test_a_whole_try_that_was_too_slow_counts():
    pace = Pace(timeout=14, request_timeout=6, delay=2, max_delay=2)
    outcome, _time, limits, _seen = run(["no", "late"], pace, takes=6)
    assert limits == [6, 6]
    assert outcome.result == "late"


def test_what_stays_hopeless_is_given_up_early():
    pace = Pace(timeout=600, delay=1, max_delay=1, settle=5)
    outcome, time, _limits, _seen = run(["no", "never"], pace, hopeless=["never"])
    assert outcome.result == "never"
    assert time.now == 1006


def test_what_was_hopeless_for_a_moment_is_not():
    pace = Pace(timeout=600, delay=1, max_delay=1, settle=5)
    outcome, _time, _limits, _seen = run(["never"] * 4 + ["no"] + ["never"] * 4 + ["yes"], pace, hopeless=["never"])
    assert outcome.result == "yes"


def test_within_returns_what_is_done_in_time():
    assert within(30, lambda: "done", "late") == "done"


def test_within_raises_what_is_raised():
    with pytest.raises(ZeroDivisionError):
        within(30, lambda: str(1 // 0), "late")


def test_within_does_not_wait_for_what_is_late():
    event = threading.Event()
    try:
        assert within(0.01, lambda: str(event.wait(30)), "late") == "late"
    finally:
        event.set()
