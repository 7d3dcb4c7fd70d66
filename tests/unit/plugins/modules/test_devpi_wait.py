# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.modules import devpi_wait

READY = _devpi.ProbeResult(_devpi.READY, "devpi-server 6.20.3 responds", version="6.20.3", uuid="c0ffee", serial=0)
REFUSED = _devpi.ProbeResult(_devpi.REFUSED, "connection refused")
NO_INDEX = _devpi.ProbeResult(_devpi.NO_INDEX, "index root/nope does not exist", version="6.20.3")
OTHER = _devpi.ProbeResult(_devpi.OTHER_SERVICE, "nginx responds (status 200), not devpi")
ARGUMENTS = {"url": "http://localhost:3141"}


@pytest.fixture
def results(monkeypatch):
    """The results of the probes, the last of which repeats. Each probe takes a second."""
    remaining = []
    clock = {"now": 0.0}

    def probe(client, level, index, project, listener_uid):
        clock["now"] += 1
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    def poll(*args, **kwargs):
        def sleep(seconds):
            clock["now"] += seconds

        return original(*args, clock=lambda: clock["now"], sleep=sleep, **kwargs)

    original = devpi_wait.poll
    monkeypatch.setattr(_devpi, "probe", probe)
    monkeypatch.setattr(devpi_wait, "poll", poll)
    return remaining


def test_waits_until_the_server_is_ready(run_module, results):
    results += [REFUSED, REFUSED, READY]
    ended = run_module(devpi_wait, ARGUMENTS)
    assert not ended.failed
    result = ended.result
    assert (result["ready"], result["changed"], result["attempts"], result["kind"]) == (True, False, 3, "ready")
    assert (result["version"], result["uuid"], result["serial"]) == ("6.20.3", "c0ffee", 0)
    assert [(entry["kind"], entry["count"]) for entry in result["history"]] == [("refused", 2), ("ready", 1)]
    assert result["elapsed"] > 3


def lacking(*lags):
    return [_devpi.ProbeResult(_devpi.NOT_IN_SYNC, "the replica lacks changes", lag=lag) for lag in lags]


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        ([None], 10),
        # The first number is no progress yet.
        ([None, None, 9], 10),
        ([9, 8, 7, 8, 7], 15),
        ([9, 10, 11, 9], 10),
    ],
)
def test_waits_for_a_replica_while_it_receives_changes(run_module, results, lags, expected):
    results += lacking(*lags)
    options = {"level": "in_sync", "timeout": 10, "delay": 1, "max_delay": 1}
    ended = run_module(devpi_wait, dict(ARGUMENTS, **options))
    assert ended.failed
    assert ended.result["elapsed"] == expected


def test_fails_with_the_reason(run_module, results):
    results += [REFUSED]
    ended = run_module(devpi_wait, dict(ARGUMENTS, timeout=30))
    assert ended.failed
    assert ended.result["kind"] == "refused"
    assert ended.result["elapsed"] >= 30
    assert "connection refused" in ended.result["msg"]
    assert "check the host and the port" in ended.result["msg"]


def test_definitive_failure_ends_the_wait_early(run_module, results):
    results += [NO_INDEX]
    ended = run_module(devpi_wait, dict(ARGUMENTS, index="root/nope", timeout=3600))
    assert ended.failed
    assert ended.result["elapsed"] < 30
    assert "index root/nope does not exist" in ended.result["msg"]


def test_check_mode_probes_once_and_does_not_fail(run_module, results):
    results += [REFUSED, READY]
    ended = run_module(devpi_wait, dict(ARGUMENTS, timeout=600), check_mode=True)
    assert not ended.failed
    assert (ended.result["ready"], ended.result["attempts"], ended.result["changed"]) == (False, 1, False)


@pytest.mark.parametrize("absent", [REFUSED, OTHER])
def test_absent_waits_until_devpi_does_not_respond(run_module, results, absent):
    results += [READY, _devpi.ProbeResult(_devpi.TOO_SLOW, "the request timed out"), absent]
    ended = run_module(devpi_wait, dict(ARGUMENTS, level="absent"))
    assert not ended.failed
    assert ended.result["attempts"] == 3
    assert ended.result["msg"] == "devpi no longer responds at http://localhost:3141"


def test_absent_fails_while_devpi_responds(run_module, results):
    results += [READY]
    ended = run_module(devpi_wait, dict(ARGUMENTS, level="absent", timeout=10))
    assert ended.failed
    assert "still responds" in ended.result["msg"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"url": "localhost:3141"}, "url: "),
        ({"url": "http://ada:secret@localhost:3141"}, "url: "),
        ({"index": "pypi"}, "index: "),
        ({"timeout": -1}, "timeout is -1"),
        ({"request_timeout": 0}, "request_timeout is 0"),
        ({"delay": 0}, "delay is 0"),
        ({"confirm_failure": -1}, "confirm_failure is -1"),
        ({"ca_path": "/nowhere/ca.pem"}, "ca_path: "),
        ({"level": "perfect"}, "level"),
        ({"url_username": "ada"}, "url_password"),
    ],
)
def test_invalid_options_are_named(run_module, results, arguments, option):
    results += [READY]
    ended = run_module(devpi_wait, dict(ARGUMENTS, **arguments))
    assert ended.failed
    assert option in ended.result["msg"]
    assert "secret" not in ended.result["msg"]


def test_default_url(run_module, results):
    results += [REFUSED]
    assert "http://127.0.0.1:3141 is not ready" in run_module(devpi_wait, {"timeout": 1}).result["msg"]


@pytest.mark.parametrize(
    ("offset", "seconds", "problem"), [((-1.0, 0.0), -0.5, ""), ((59.0, 60.0), 59.5, "59.5 s ahead")]
)
def test_the_clock_is_compared_with_that_of_the_server(run_module, results, offset, seconds, problem):
    results += [replace(READY, clock=_devpi.ClockOffset(*offset))]
    result = run_module(devpi_wait, dict(ARGUMENTS, level="api")).result
    assert result["clock_offset"] == seconds
    assert problem in result["clock_problem"]
    assert bool(problem) == bool(result["clock_problem"])
