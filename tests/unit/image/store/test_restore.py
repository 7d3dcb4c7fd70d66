# SPDX-License-Identifier: GPL-3.0-or-later
"""How a backup is staged and activated, and when that is refused."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from devpi_mirror import compat

PRIVATE_FILE = "server/+files/alice/private/+f/abc/def/one.whl"


def test_a_restore_can_be_undone(store, data, create, backup, restore):
    module, describe = store.restore, store.database.describe
    create(data, "one", 9)
    (data / "server" / "later").touch()
    assert restore(backup, force=True)
    assert describe(data / "server")["serial"] == 9
    module.activate()
    assert describe(data / "server") == {"uuid": "one", "serial": 7}
    # Mirrored files remain.
    assert (data / "server/+files/root/pypi/+f/abc/def/one.whl").exists()
    assert not (data / "server" / "later").exists()
    assert describe(module.REPLACED / "server")["serial"] == 9
    module.undo()
    module.activate()
    assert describe(data / "server")["serial"] == 9
    assert (data / "server" / "later").exists()


def test_a_staged_backup_is_discarded_by_undo(store, data, backup, restore):
    assert restore(backup, force=True)
    store.restore.undo()
    store.restore.activate()
    assert sorted(path.name for path in data.iterdir()) == ["secret", "server"]
    with pytest.raises(store.errors.DataError):
        store.restore.undo()


def test_an_equal_backup_changes_nothing(store, backup, restore):
    assert not restore(backup)
    assert not store.restore.INCOMING.exists()


@pytest.fixture
def make_replica(data):
    """Return a function that makes the data directory that of a replica of a mirror."""

    def make(uuid: str, **known: str) -> dict[str, str]:
        info = {"role": "replica", "masterurl": "https://pypi.example.com", "uuid": uuid, **known}
        (data / "server" / ".nodeinfo").write_text(json.dumps(info))
        return info

    return make


@pytest.mark.parametrize("known", [{}, {"primary-uuid": "one"}])
def test_a_replica_continues_from_a_backup_of_its_primary(
    store, data, create, write_backup, restore, make_replica, known
):
    create(data, "one", 7)
    (data / "root-password").write_text("password of one")
    backup = write_backup()
    (data / "root-password").unlink()
    shutil.rmtree(data / "server")
    create(data, "two", 3)
    (data / "secret").write_text("secret of one")
    info = make_replica("two", **known)
    assert restore(backup)
    store.restore.activate()
    assert store.database.describe(data / "server") == {"uuid": "two", "serial": 7}
    assert json.loads((data / "server" / ".nodeinfo").read_text()) == {**info, "primary-uuid": "one"}
    assert (data / PRIVATE_FILE).read_text() == "one"
    assert not (data / "root-password").exists()
    assert not restore(backup)
    # Later changes of the primary.
    create(data, "two", 8)
    make_replica("two", **{"primary-uuid": "one"})
    with pytest.raises(store.errors.ForceRequiredError, match="has changed since"):
        restore(backup)


def test_a_replica_refuses_a_backup_of_another_mirror(store, data, create, backup, restore, make_replica):
    create(data, "two", 3)
    make_replica("two", **{"primary-uuid": "three"})
    with pytest.raises(store.errors.DataError, match="not one of its primary"):
        restore(backup, force=True)
    assert not store.restore.INCOMING.exists()


def test_an_equal_backup_is_restored_if_forced(backup, restore):
    assert restore(backup, force=True)


def test_a_damaged_database_that_returns_its_serial_is_restored(store, data, create, write_backup, restore):
    create(data, "one", 7)
    database = data / "server" / compat.DATABASE
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE kv (key TEXT)")
        connection.executemany("INSERT INTO kv VALUES (?)", [("x" * 1000,)] * 50)
        connection.commit()
    backup = write_backup()
    content = database.read_bytes()
    # The root page of the table, which was created last.
    page = content.index(b"x" * 1000) // 4096 * 4096
    database.write_bytes(content[:page] + bytes(4096) + content[page + 4096 :])
    assert store.database.describe(data / "server")["serial"] == 7
    assert restore(backup)


@pytest.mark.parametrize("damage", ["damaged", None])
def test_a_damaged_or_missing_private_file_is_restored(store, data, backup, restore, damage):
    file = data / PRIVATE_FILE
    file.unlink()
    if damage:
        file.write_text(damage)
    assert restore(backup)
    store.restore.activate()
    assert file.read_text() == "one"
    assert not restore(backup)


def test_an_unreadable_private_file_is_restored(store, data, backup, restore, monkeypatch):
    file = data / PRIVATE_FILE

    def compare(_path, other, **_options):
        if other == file:
            raise PermissionError(13, "Permission denied", str(file))
        return True

    monkeypatch.setattr(store.restore.filecmp, "cmp", compare)
    assert restore(backup)
    store.restore.activate()
    assert file.read_text() == "one"


@pytest.mark.parametrize("name", ["secret", "root-password"])
@pytest.mark.parametrize("damage", ["damaged", None])
def test_a_damaged_or_missing_secret_is_restored(store, data, create, write_backup, restore, name, damage):
    create(data, "one", 7)
    (data / "root-password").write_text("password of one")
    backup = write_backup()
    before = (data / name).read_text()
    assert not restore(backup)
    (data / name).unlink()
    if damage:
        (data / name).write_text(damage)
    assert restore(backup)
    store.restore.activate()
    assert (data / name).read_text() == before


@pytest.mark.parametrize(
    ("uuid", "serial", "users", "reason"),
    [
        ("one", 8, {}, "has changed since .serial 8."),
        (
            "two",
            3,
            {"root": {"indexes": {"pypi": {}}}, "bob": {"indexes": {"dev": {}}}},
            "another mirror, which has bob",
        ),
        ("two", 3, {"root": {"indexes": {"pypi": {}, "more": {}}}}, "another mirror, which has root/more"),
    ],
)
def test_newer_data_and_data_of_another_mirror_are_replaced_only_if_forced(
    store, data, create, backup, restore, monkeypatch, uuid, serial, users, reason
):
    create(data, uuid, serial)
    monkeypatch.setattr(store.devpi_api, "send", lambda *_arguments: {"result": users})
    with pytest.raises(store.errors.ForceRequiredError, match=reason):
        restore(backup)
    assert sorted(path.name for path in data.iterdir()) == ["secret", "server"]
    assert restore(backup, force=True)


def test_data_of_a_mirror_that_does_not_respond_is_replaced_only_if_forced(
    store, data, create, backup, restore, monkeypatch
):
    def fail(*_arguments):
        raise store.devpi_api.UnavailableError("Connection refused")

    create(data, "two", 3)
    monkeypatch.setattr(store.devpi_api, "send", fail)
    with pytest.raises(store.errors.ForceRequiredError, match="does not respond"):
        restore(backup)


def test_data_of_a_new_mirror_is_replaced(store, data, create, backup, restore):
    create(data, "two", 30)
    assert restore(backup)
    store.restore.activate()
    assert (data / "secret").read_text() == "secret of one"


def test_a_backup_of_another_release_is_refused(store, backup, restore, monkeypatch):
    monkeypatch.setattr(store.archive, "MAJOR", compat.MAJOR + 1)
    with pytest.raises(store.errors.DataError, match="set devpi_server_release to the release of the backup"):
        restore(backup, force=True)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_truncated_backup_is_refused(store, backup, restore, size):
    with pytest.raises(store.errors.DataError, match="not a mirror backup, or the archive is truncated"):
        restore(backup[:size], force=True)
    assert not store.restore.INCOMING.exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("../outside", tarfile.REGTYPE), ("/etc/outside", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)]
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(store, restore, tmp_path, name, kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc"
        archive.addfile(member)
    with pytest.raises(store.errors.DataError, match="which is not part of a backup"):
        restore(stream.getvalue(), force=True)
    assert not list(tmp_path.glob("**/outside"))


@pytest.mark.parametrize("calls", range(1, 6))
def test_an_interrupted_activation_is_completed_by_the_next(store, data, create, backup, restore, monkeypatch, calls):
    create(data, "one", 8)
    restore(backup, force=True)
    renames = iter([Path.rename] * (calls - 1))

    def rename(path, target):
        return next(renames)(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        # The secret and the data directory, each replaced and activated, are four.
        if calls < 5:
            with pytest.raises(StopIteration):
                store.restore.activate()
        else:
            store.restore.activate()
    store.restore.activate()
    assert store.database.describe(data / "server")["serial"] == 7
    assert store.database.describe(store.restore.REPLACED / "server")["serial"] == 8
    assert not store.restore.INCOMING.exists()
