# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup contains."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from devpi_mirror import compat


def test_a_backup_contains_what_is_not_mirrored(store, backup):
    with tarfile.open(fileobj=io.BytesIO(backup)) as archive:
        names = [name.removeprefix("./") for name in archive.getnames()]
        manifest = json.load(archive.extractfile("manifest.json"))
    assert names[0] == "manifest.json"
    assert {
        "secret",
        f"server/{compat.DATABASE}",
        "server/.nodeinfo",
        "server/+files/alice/private/+f/abc/def/one.whl",
    } <= set(names)
    assert not [name for name in names if "root/pypi" in name]
    assert (manifest["uuid"], manifest["serial"], manifest["mirrors"]) == ("one", 7, ["root/pypi"])
    assert not (store.config.DATA / "backup").exists()


@pytest.mark.usefixtures("backup")
def test_a_backup_contains_mirrored_files_if_requested(write_backup):
    with tarfile.open(fileobj=io.BytesIO(write_backup(has_mirrored_files=True))) as archive:
        assert [name for name in archive.getnames() if "root/pypi" in name]


def test_an_unreadable_data_directory_is_an_error(store, write_backup):
    with pytest.raises(store.errors.DataError, match="could not copy the database"):
        write_backup()


def test_a_backup_waits_until_no_other_process_uses_the_data(store, data, create, write_backup, monkeypatch):
    create(data, "one", 7)
    locks = []
    with monkeypatch.context() as patched:
        patched.setattr(store.backup, "write", lambda _mirrored: locks.append(is_locked(store)))
        write_backup()
    assert (locks, is_locked(store)) == ([True], False)


def is_locked(store) -> bool:
    try:
        with store.backup.locked(store.config.DATA_LOCK, wait=False):
            return False
    except BlockingIOError:
        return True


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_checked_backup_is_recorded(store, scheduled):
    store.backup.record("devpi.tar", scheduled)
    recorded = json.loads((store.config.DATA / "last-backup.json").read_text())
    assert (recorded["file"], recorded["scheduled"]) == ("devpi.tar", scheduled)
