# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.modules import devpi_wait

READY = _devpi.Seen(_devpi.READY, "devpi-server 6.20.3 answers", version="6.20.3", uuid="c0ffee", serial=0)
REFUSED = _devpi.Seen(_devpi.REFUSED, "nothing listens on that port")
NO_INDEX = _devpi.Seen(_devpi.NO_INDEX, "it has no index root/nope", version="6.20.3")
OTHER = _devpi.Seen(_devpi.OTHER_SERVICE, "what answers there (200) is nginx, not devpi")
ARGUMENTS = {"url": "http://localhost:3141"}


@pytest.fixture
def looks(monkeypatch):
    """What each look is to see, the last one for ever. Time goes on by a second a look."""
    left = []
    clock = {"now": 0.0}

    def look(client, level, index, project, listener_uid):
        clock["now"] += 1
        return left.pop(0) if len(left) > 1 else left[0]

    def poll(*args, **kwargs):
        def sleep(seconds):
            clock["now"] += seconds

        return original(*args, clock=lambda: clock["now"], sleep=sleep, **kwargs)

    original = devpi_wait.poll
    monkeypatch.setattr(_devpi, "look", look)
    monkeypatch.setattr(devpi_wait, "poll", poll)
    return left


def test_it_waits_until_it_is_ready(run_module, looks):
    looks += [REFUSED, REFUSED, READY]
    ended = run_module(devpi_wait, ARGUMENTS)
    assert not ended.failed
    result = ended.result
    assert (result["ready"], result["changed"], result["attempts"], result["kind"]) == (True, False, 3, "ready")
    assert (result["version"], result["uuid"], result["serial"]) == ("6.20.3", "c0ffee", 0)
    assert [(entry["kind"], entry["times"]) for entry in result["history"]] == [("refused", 2), ("ready", 1)]
    assert result["elapsed"] > 3


def test_it_fails_with_what_is_in_the_way(run_module, looks):
    looks += [REFUSED]
    ended = run_module(devpi_wait, dict(ARGUMENTS, timeout=30))
    assert ended.failed
    assert ended.result["kind"] == "refused"
    assert ended.result["elapsed"] >= 30
    assert "nothing listens on that port" in ended.result["msg"]
    assert "compare the host and port" in ended.result["msg"]


def test_an_index_that_does_not_exist_is_not_waited_for_to_the_end(run_module, looks):
    looks += [NO_INDEX]
    ended = run_module(devpi_wait, dict(ARGUMENTS, index="root/nope", timeout=3600))
    assert ended.failed
    assert ended.result["elapsed"] < 30
    assert "no index root/nope" in ended.result["msg"]


def test_check_mode_looks_once_and_does_not_fail(run_module, looks):
    looks += [REFUSED, READY]
    ended = run_module(devpi_wait, dict(ARGUMENTS, timeout=600), check_mode=True)
    assert not ended.failed
    assert (ended.result["ready"], ended.result["attempts"], ended.result["changed"]) == (False, 1, False)


@pytest.mark.parametrize("gone", [REFUSED, OTHER])
def test_absent_waits_until_no_devpi_answers(run_module, looks, gone):
    looks += [READY, _devpi.Seen(_devpi.TOO_SLOW, "no answer in time"), gone]
    ended = run_module(devpi_wait, dict(ARGUMENTS, level="absent"))
    assert not ended.failed
    assert ended.result["attempts"] == 3
    assert ended.result["msg"] == "no devpi answers at http://localhost:3141"


def test_absent_fails_while_devpi_answers(run_module, looks):
    looks += [READY]
    ended = run_module(devpi_wait, dict(ARGUMENTS, level="absent", timeout=10))
    assert ended.failed
    assert "still answers" in ended.result["msg"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"url": "localhost:3141"}, "url: "),
        ({"url": "http://ada:secret@localhost:3141"}, "url: "),
        ({"index": "pypi"}, "index: "),
        ({"timeout": -1}, "timeout is -1"),
        ({"request_timeout": 0}, "request_timeout is 0"),
        ({"delay": 0}, "delay is 0"),
        ({"ca_path": "/nowhere/ca.pem"}, "ca_path: "),
        ({"level": "perfect"}, "level"),
        ({"url_username": "ada"}, "url_password"),
    ],
)
def test_bad_input_names_the_parameter(run_module, looks, arguments, named):
    looks += [READY]
    ended = run_module(devpi_wait, dict(ARGUMENTS, **arguments))
    assert ended.failed
    assert named in ended.result["msg"]
    assert "secret" not in ended.result["msg"]


def test_certificates_are_not_checked_when_that_is_asked_for():
    assert devpi_wait.tls_context(None, True).check_hostname
    assert not devpi_wait.tls_context(None, False).check_hostname
