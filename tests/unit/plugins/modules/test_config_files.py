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


def test_files_are_written_and_then_unchanged(run_module, tmp_path):
    files = [
        {"path": str(tmp_path / "run"), "content": "#!/bin/sh\n", "mode": "0755", "validate": "sh -n %s"},
        {"path": str(tmp_path / "env"), "content": "A=é\n", "mode": "0600"},
    ]
    first = run_module(config_files, {"files": files})
    assert (first.failed, first.result["changed"], first.result["paths"]) == (False, True, [f["path"] for f in files])
    assert (tmp_path / "env").read_bytes() == "A=é\n".encode()
    assert (mode(tmp_path / "run"), mode(tmp_path / "env")) == (0o755, 0o600)
    assert names(tmp_path) == ["env", "run"]
    second = run_module(config_files, {"files": files})
    assert second.result == {"changed": False, "paths": [], "diff": []}


def test_a_changed_file_alone_is_written(run_module, tmp_path):
    (tmp_path / "a").write_text("old\n")
    (tmp_path / "b").write_text("same\n")
    (tmp_path / "a").chmod(0o644)
    (tmp_path / "b").chmod(0o644)
    inode = (tmp_path / "b").stat().st_ino
    files = [{"path": str(tmp_path / "a"), "content": "new\n"}, {"path": str(tmp_path / "b"), "content": "same\n"}]
    result = run_module(config_files, {"files": files}).result
    assert result["paths"] == [str(tmp_path / "a")]
    (entry,) = result["diff"]
    assert (entry["before"], entry["after"]) == ("old\n", "new\n")
    assert (tmp_path / "b").stat().st_ino == inode


def test_a_wrong_mode_is_corrected(run_module, tmp_path):
    (tmp_path / "env").write_text("secret\n")
    (tmp_path / "env").chmod(0o644)
    files = [{"path": str(tmp_path / "env"), "content": "secret\n", "mode": "0600"}]
    (entry,) = run_module(config_files, {"files": files}).result["diff"]
    assert ("mode 0644" in entry["before"], "mode 0600" in entry["after"]) == (True, True)
    assert mode(tmp_path / "env") == 0o600


def test_an_invalid_file_leaves_all_files(run_module, tmp_path):
    (tmp_path / "first").write_text("old\n")
    files = [
        {"path": str(tmp_path / "first"), "content": "new\n"},
        {"path": str(tmp_path / "second"), "content": "if\n", "validate": "sh -n %s"},
    ]
    outcome = run_module(config_files, {"files": files})
    assert outcome.failed
    assert str(tmp_path / "second") in outcome.result["msg"]
    assert (tmp_path / "first").read_text() == "old\n"
    assert names(tmp_path) == ["first"]


def test_files_are_validated_beside_each_other(run_module, tmp_path):
    files = [
        {"path": str(tmp_path / "one"), "content": "1\n", "validate": 'sh -c \'cat "$(dirname "$0")/two"\' %s'},
        {"path": str(tmp_path / "two"), "content": "2\n"},
    ]
    assert not run_module(config_files, {"files": files}).failed


def test_a_file_that_can_not_be_replaced_leaves_all_files(run_module, tmp_path):
    (tmp_path / "first").write_text("old\n")
    files = [
        {"path": str(tmp_path / "first"), "content": "new\n"},
        {"path": str(tmp_path / "missing" / "second"), "content": "new\n"},
    ]
    outcome = run_module(config_files, {"files": files})
    assert outcome.failed
    assert "missing/second" in outcome.result["msg"]
    assert (tmp_path / "first").read_text() == "old\n"
    assert names(tmp_path) == ["first"]


def test_a_directory_is_not_replaced(run_module, tmp_path):
    (tmp_path / "folder").mkdir()
    outcome = run_module(config_files, {"files": [{"path": str(tmp_path / "folder"), "content": ""}]})
    assert outcome.failed
    assert str(tmp_path / "folder") in outcome.result["msg"]


def test_check_mode_changes_nothing(run_module, tmp_path):
    files = [{"path": str(tmp_path / "unit"), "content": "text\n", "validate": "no-such-command %s"}]
    result = run_module(config_files, {"files": files}, check_mode=True, diff=True).result
    assert (result["changed"], result["paths"]) == (True, [str(tmp_path / "unit")])
    assert (result["diff"][0]["before"], result["diff"][0]["after"]) == ("", "text\n")
    assert names(tmp_path) == []
