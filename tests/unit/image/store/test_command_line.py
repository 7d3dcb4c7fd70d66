# SPDX-License-Identifier: GPL-3.0-or-later
"""The output and the exit status of ``python -m devpi_mirror.store``."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest


@pytest.fixture
def run(store, monkeypatch, capsys):
    """Return a function that runs a command, and returns its exit status, its output and its error."""

    def run_command(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(store.archive.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        status = store.main.main(list(arguments))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run_command


def test_restore_reports_whether_it_changes_anything(run, backup):
    assert run("restore", stdin=backup) == (0, "unchanged\n", "")
    assert run("restore", "--force", stdin=backup) == (0, "staged\n", "")


def test_restore_needs_force_to_discard_data(run, data, create, backup):
    create(data, "one", 8)
    status, output, error = run("restore", stdin=backup)
    assert (status, output) == (3, "")
    assert "has changed since (serial 8)" in error
    assert run("restore", "--force", stdin=backup) == (0, "staged\n", "")


def test_an_error_is_one_line(run):
    status, output, error = run("restore", stdin=b"no backup")
    assert (status, output, error.count("\n")) == (1, "", 1)
    assert run("undo") == (1, "", "no data was replaced\n")


def test_export_freezes_the_mirror(run, store, monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(store.freeze, "FROZEN", tmp_path / "frozen")
    monkeypatch.setattr(store.freeze, "supervise", lambda *arguments: commands.append(arguments))
    monkeypatch.setattr(store.commands, "run", lambda _failure, _environ, *command: commands.append(command[0]))
    monkeypatch.setattr(store.export, "replace_missing_passwords", lambda _folder: None)
    assert run("export", str(tmp_path / "export"))[0] == 0
    assert commands == [("stopProcess", "maintenance"), ("startProcess",), "devpi-export"]
    assert store.freeze.FROZEN.exists()
    assert run("unfreeze")[0] == 0
    assert not store.freeze.FROZEN.exists()


@pytest.mark.parametrize(
    ("arguments", "module", "function", "expected"),
    [
        (["backup", "--mirrored-files"], "backup", "back_up", [True]),
        (["note", "devpi.tar"], "backup", "record", ["devpi.tar"]),
        (["activate"], "restore", "activate", []),
        (["import", "/old"], "export", "import_earlier", ["/old"]),
        (["compact"], "rebuild", "compact", []),
    ],
)
def test_each_command_calls_its_function(run, store, monkeypatch, arguments, module, function, expected):
    calls = []
    monkeypatch.setattr(getattr(store, module), function, lambda *given: calls.append(list(given)))
    assert run(*arguments)[0] == 0
    assert [[str(argument) for argument in call] for call in calls] == [[str(argument) for argument in expected]]
