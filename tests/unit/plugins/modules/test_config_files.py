# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
from pathlib import Path

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

    def run(contents, check_mode=False, diff=True, **options):
        arguments = {"contents": {str(path): text for path, text in contents.items()}}
        arguments.update(
            {name: {str(path): value for path, value in by_path.items()} for name, by_path in options.items()}
        )
        return run_module(config_files, arguments, check_mode=check_mode, diff=diff)

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
    script = tmp_path / "script"
    script.write_text("true\n")
    script.chmod(0o644)
    (entry,) = write({script: "true\n"}, modes={script: "0755"}).result["diff"]
    assert ("mode 0644" in entry["before"], "mode 0755" in entry["after"]) == (True, True)
    assert mode(script) == 0o755


def test_an_octal_number_without_quotes_is_a_mode(write, tmp_path):
    write({tmp_path / "env": ""}, modes={tmp_path / "env": 0o600})
    assert mode(tmp_path / "env") == 0o600


@pytest.mark.parametrize("old_mode", [0o600, 0o644])
def test_the_text_of_a_private_file_is_not_returned(write, tmp_path, old_mode):
    env = tmp_path / "env"
    env.write_text("PASSWORD=old-secret\n")
    env.chmod(old_mode)
    result = write({env: "PASSWORD=new-secret\n"}, modes={env: "0600"}).result
    assert result["changed"]
    assert "secret" not in str(result)
    assert env.read_text() == "PASSWORD=new-secret\n"


def test_no_text_is_returned_without_diff_mode(write, tmp_path):
    assert write({tmp_path / "unit": "text\n"}, diff=False).result == {
        "changed": True,
        "paths": [str(tmp_path / "unit")],
    }


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


def test_a_validation_that_the_host_lacks_leaves_all_files(write, tmp_path):
    outcome = write({tmp_path / "unit": ""}, validate={tmp_path / "unit": "no-such-command %s"})
    assert outcome.failed
    assert "no-such-command" in outcome.result["msg"]
    assert names(tmp_path) == []


def test_a_file_that_can_not_be_written_leaves_all_files(write, tmp_path):
    existing, new, missing = tmp_path / "existing", tmp_path / "new", tmp_path / "missing" / "file"
    existing.write_text("old\n")
    existing.chmod(0o640)
    outcome = write({existing: "new\n", new: "new\n", missing: "new\n"})
    assert outcome.failed
    assert str(missing) in outcome.result["msg"]
    assert (existing.read_text(), mode(existing)) == ("old\n", 0o640)
    assert names(tmp_path) == ["existing"]


def test_the_message_names_files_that_can_not_be_restored(write, tmp_path, monkeypatch):
    existing, new, missing = tmp_path / "existing", tmp_path / "new", tmp_path / "missing" / "file"
    existing.write_text("old\n")

    def is_lost(module, path, found):
        return path != str(existing)

    monkeypatch.setattr(config_files, "restore", is_lost)
    outcome = write({existing: "new\n", new: "new\n", missing: "new\n"})
    assert outcome.failed
    assert str(missing) in outcome.result["msg"]
    assert outcome.result["msg"].endswith(f": {existing}.")


def test_what_a_crash_has_left_is_replaced(write, tmp_path):
    unit = tmp_path / "unit"
    Path(config_files.temporary(str(unit))).write_text("incomplete")
    assert not write({unit: "text\n"}).failed
    assert names(tmp_path) == ["unit"]


def test_a_directory_is_not_replaced(write, tmp_path):
    outcome = write({tmp_path: ""})
    assert outcome.failed
    assert str(tmp_path) in outcome.result["msg"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"contents": {"etc/relative": ""}}, "contents"),
        ({"contents": {"/etc/../etc/file": ""}}, "contents"),
        ({"contents": {"/etc/file": None}}, "contents"),
        ({"contents": {"/etc/file": ""}, "modes": {"/etc/file": "u=rw"}}, "modes"),
        ({"contents": {"/etc/file": ""}, "modes": {"/etc/other": "0644"}}, "modes"),
        ({"contents": {"/etc/file": ""}, "validate": {"/etc/file": "sh -n"}}, "validate"),
        ({"contents": {"/etc/file": ""}, "validate": {"/etc/file": None}}, "validate"),
        ({"contents": {"/etc/file": ""}, "validate": {"/etc/file": "%s"}}, "validate"),
        ({"contents": {"/etc/file": ""}, "validate": {"/etc/file": "sh -n '%s"}}, "validate"),
    ],
)
def test_the_message_about_an_invalid_option_names_it(run_module, options, name):
    outcome = run_module(config_files, options)
    assert outcome.failed
    assert outcome.result["msg"].startswith(f"{name} has ")


def test_check_mode_changes_nothing(write, tmp_path):
    unit = tmp_path / "unit"
    result = write({unit: "text\n"}, check_mode=True, validate={unit: "no-such-command %s"}).result
    assert (result["changed"], result["paths"]) == (True, [str(unit)])
    assert (result["diff"][0]["before"], result["diff"][0]["after"]) == ("", "text\n")
    assert names(tmp_path) == []
