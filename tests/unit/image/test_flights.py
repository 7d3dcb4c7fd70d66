"""Tasks that run once for all who ask for them."""

from __future__ import annotations

import threading

import pytest
from devpi_mirror.flights import Flights


def test_threads_share_a_task():
    flights: Flights[int] = Flights(4, "test")
    go_on, calls = threading.Event(), []

    def task():
        calls.append(go_on.wait(30))
        return 7

    futures = [flights.start("key", task) for _client in range(3)]
    other = flights.start("other", lambda: 8)
    assert other.result(30) == 8
    go_on.set()
    assert [future.result(30) for future in futures] == [7, 7, 7]
    assert calls == [True]
    assert flights.run("key", lambda: 9, 30) == 9


def test_who_does_not_wait_leaves_the_task_to_the_others():
    flights: Flights[int] = Flights(4, "test")
    go_on = threading.Event()
    future = flights.start("key", lambda: int(go_on.wait(30)))
    with pytest.raises(TimeoutError):
        flights.run("key", lambda: 0, 0.01)
    go_on.set()
    assert future.result(30) == 1


def test_a_failure_is_not_kept():
    flights: Flights[int] = Flights(4, "test")
    with pytest.raises(KeyError):
        flights.run("key", lambda: {}["x"], 30)
    assert flights.run("key", lambda: 1, 30) == 1
    assert flights.running == {}
