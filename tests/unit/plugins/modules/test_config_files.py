# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.devpi.mirror.plugins.modules import config_files


@pytest.fixture(autouse=True)
def owner(monkeypatch):
    """The user of the tests, who may not be root."""
    monkeypatch.setattr(config_files, "OWNER", os.getuid())
    monkeypatch.setattr(config_files, "GROUP", os.getgid())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def write(run_module):
    """Return a function that runs the module with texts by path."""

    def run(contents, check_mode=False, **options):
        arguments = {"contents": {str(path): text for path, text in contents.items()}}
        arguments.update(
            {name: {str(path): value for path, value in by_path.items()} for name, by_path in options.items()}
        )
        return run_module(config_files, arguments, check_mode=check_mode, diff=check_mode)

    return run


def test_files_are_written_and_then_unchanged(write, tmp_path):
    script, env = tmp_path / "run", tmp_path / "env"
    arguments = {
        "contents": {script: "#!/bin/sh\n", env: "A=é\n"},
        "modes": {script: "0755", env: "0600"},
        "validate": {script: "sh -n %s"},
    }
    first = write(**arguments)
    assert (first.failed, first.result["changed"], first.result["paths"]) == (False, True, [str(script), str(env)])
    assert env.read_bytes() == "A=é\n".encode()
    assert (mode(script), mode(env)) == (0o755, 0o600)
    assert names(tmp_path) == ["env", "run"]
    assert write(**arguments).result == {"changed": False, "paths": [], "diff": []}


def test_a_changed_file_alone_is_written(write, tmp_path):
    changed, same = tmp_path / "changed", tmp_path / "same"
    for path in (changed, same):
        path.write_text("old\n")
        path.chmod(0o644)
    inode = same.stat().st_ino
    result = write({changed: "new\n", same: "old\n"}).result
    assert result["paths"] == [str(changed)]
    (entry,) = result["diff"]
    assert (entry["before"], entry["after"]) == ("old\n", "new\n")
    assert same.stat().st_ino == inode


def test_a_wrong_mode_is_corrected(write, tmp_path):
    env = tmp_path / "env"
    env.write_text("secret\n")
    env.chmod(0o644)
    (entry,) = write({env: "secret\n"}, modes={env: "0600"}).result["diff"]
    assert ("mode 0644" in entry["before"], "mode 0600" in entry["after"]) == (True, True)
    assert mode(env) == 0o600


def test_an_invalid_file_leaves_all_files(write, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old\n")
    outcome = write({first: "new\n", second: "if\n"}, validate={second: "sh -n %s"})
    assert outcome.failed
    assert str(second) in outcome.result["msg"]
    assert first.read_text() == "old\n"
    assert names(tmp_path) == ["first"]


def test_files_are_validated_beside_each_other(write, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert not write({one: "1\n", two: "2\n"}, validate={one: 'sh -c \'cat "$(dirname "$0")/two"\' %s'}).failed


def test_a_file_that_can_not_be_written_leaves_all_files(write, tmp_path):
    first, second = tmp_path / "first", tmp_path / "missing" / "second"
    first.write_text("old\n")
    outcome = write({first: "new\n", second: "new\n"})
    assert outcome.failed
    assert "missing/second" in outcome.result["msg"]
    assert first.read_text() == "old\n"
    assert names(tmp_path) == ["first"]


def test_a_directory_is_not_replaced(write, tmp_path):
    outcome = write({tmp_path: ""})
    assert outcome.failed
    assert str(tmp_path) in outcome.result["msg"]


def test_check_mode_changes_nothing(write, tmp_path):
    unit = tmp_path / "unit"
    result = write({unit: "text\n"}, check_mode=True, validate={unit: "no-such-command %s"}).result
    assert (result["changed"], result["paths"]) == (True, [str(unit)])
    assert (result["diff"][0]["before"], result["diff"][0]["after"]) == ("", "text\n")
    assert names(tmp_path) == []
