# SPDX-License-Identifier: GPL-3.0-or-later
"""When the image's responsive.py restarts devpi."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("supervisor")


@pytest.fixture
def responsive(load):
    return load("responsive")


def process(state: str = "RUNNING", seconds: int = 10) -> dict:
    return {"statename": state, "start": 1000, "now": 1000 + seconds}


def fail(error: Exception, cause: Exception | None = None):
    def send(*_arguments, **_options):
        raise error from cause

    return send


def test_a_devpi_that_responds_is_not_hung(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", lambda *_arguments, **_options: {})
    assert not responsive.is_hung(process())


def test_a_devpi_that_is_stopped_is_not_hung(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", fail(responsive.UnavailableError("timed out"), TimeoutError()))
    assert not responsive.is_hung(process("STOPPED"))


def test_a_devpi_that_responds_too_late_is_hung(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", fail(responsive.UnavailableError("timed out"), TimeoutError()))
    assert responsive.is_hung(process())


def test_a_devpi_that_responds_with_an_error_is_hung(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", fail(responsive.StatusError("GET", "/+api", 500)))
    assert responsive.is_hung(process())


@pytest.mark.parametrize("cause", [FileNotFoundError(), ConnectionRefusedError()])
def test_a_devpi_that_starts_has_more_time(responsive, monkeypatch, cause):
    monkeypatch.setattr(responsive, "send", fail(responsive.UnavailableError("no socket"), cause))
    assert not responsive.is_hung(process(seconds=60))
    assert responsive.is_hung(process(seconds=121))
