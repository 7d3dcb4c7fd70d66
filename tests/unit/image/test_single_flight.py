# SPDX-License-Identifier: GPL-3.0-or-later
"""Concurrent tasks that share one execution."""

from __future__ import annotations

import threading

import pytest
from devpi_mirror.single_flight import SingleFlight


def test_threads_share_a_task():
    tasks: SingleFlight[int] = SingleFlight(4, "test")
    is_released, calls = threading.Event(), []

    def task():
        calls.append(is_released.wait(30))
        return 7

    futures = [tasks.start("key", task) for _client in range(3)]
    other = tasks.start("other", lambda: 8)
    assert other.result(30) == 8
    is_released.set()
    assert [future.result(30) for future in futures] == [7, 7, 7]
    assert calls == [True]
    assert tasks.run("key", lambda: 9, 30) == 9


def test_a_caller_that_stops_waiting_does_not_stop_the_task():
    tasks: SingleFlight[int] = SingleFlight(4, "test")
    is_released = threading.Event()
    future = tasks.start("key", lambda: int(is_released.wait(30)))
    with pytest.raises(TimeoutError):
        tasks.run("key", lambda: 0, 0.01)
    is_released.set()
    assert future.result(30) == 1


def test_a_failed_task_runs_again():
    tasks: SingleFlight[int] = SingleFlight(4, "test")
    with pytest.raises(KeyError):
        tasks.run("key", lambda: {}["x"], 30)
    assert tasks.run("key", lambda: 1, 30) == 1
    assert tasks.running == {}
