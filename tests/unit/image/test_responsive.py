"""When the image's responsive.py takes devpi for hung."""

from __future__ import annotations

import pytest


@pytest.fixture
def responsive(load, supervisor):
    return load("responsive")


def process(state: str = "RUNNING", seconds: int = 10) -> dict:
    return {"statename": state, "start": 1000, "now": 1000 + seconds}


def fail(error: Exception, cause: Exception | None = None):
    def send(method, path, limit):
        raise error from cause

    return send


def test_one_that_answers_is_not(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", lambda method, path, limit: {})
    assert not responsive.is_hung(process())


def test_one_that_does_not_run_is_not(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", fail(responsive.Unavailable("timed out"), TimeoutError()))
    assert not responsive.is_hung(process("STOPPED"))


def test_one_that_answers_too_late_is(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", fail(responsive.Unavailable("timed out"), TimeoutError()))
    assert responsive.is_hung(process())


def test_one_that_answers_with_an_error_is(responsive, monkeypatch):
    monkeypatch.setattr(responsive, "send", fail(responsive.StatusError("GET", "/+api", 500)))
    assert responsive.is_hung(process())


@pytest.mark.parametrize("cause", [FileNotFoundError(), ConnectionRefusedError()])
def test_one_that_starts_has_more_time(responsive, monkeypatch, cause):
    monkeypatch.setattr(responsive, "send", fail(responsive.Unavailable("no socket"), cause))
    assert not responsive.is_hung(process(seconds=60))
    assert responsive.is_hung(process(seconds=121))
