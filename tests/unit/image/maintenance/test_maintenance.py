# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of the maintenance, in which a failed step does not stop the others."""

from __future__ import annotations

import os


def test_a_failed_step_is_reported_and_the_others_run(maintenance, files, store_file, monkeypatch, capsys):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    path = store_file(b"content")
    os.utime(files / path, (1, 1))

    def fail(*_arguments):
        raise KeyError("result")

    with monkeypatch.context() as patched:
        patched.setattr(maintenance.integrity, "check_used", fail)
        maintenance.main.run(everything=True)
    assert not (files / path).exists()
    (problem,) = maintenance.state.read_state()["problems"]
    assert "'check used files' failed: KeyError: 'result'" in problem
    assert f"DEGRADED: {problem}" in capsys.readouterr().out
    maintenance.main.run(everything=True)
    assert maintenance.state.read_state()["problems"] == []


def test_an_unavailable_devpi_is_not_a_failed_step(maintenance, monkeypatch, devpi_unavailable):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    with devpi_unavailable():
        maintenance.main.run(everything=True)
    assert maintenance.state.read_state()["problems"] == []
