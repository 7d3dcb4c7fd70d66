"""What the image's store.py does: backups, and a restored store that takes the place of another."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from devpi_mirror import compat


@pytest.fixture
def store(load, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    module = load("store")
    monkeypatch.setattr(module, "mirror_indexes", lambda: {"root/pypi"})
    monkeypatch.setattr(module, "send", lambda method, path: {"result": {"root": {"indexes": {"pypi": {}}}}})
    (tmp_path / "tmp").mkdir()
    return module


def make(folder: Path, uuid: str, serial: int) -> None:
    """Lay out what a store consists of."""
    (folder / "server").mkdir(parents=True, exist_ok=True)
    (folder / "server" / ".nodeinfo").write_text(json.dumps({"uuid": uuid}))
    with closing(sqlite3.connect(folder / "server" / compat.DATABASE)) as database:
        database.execute(f"CREATE TABLE IF NOT EXISTS {compat.CHANGES} (serial INTEGER PRIMARY KEY)")
        database.execute(f"INSERT OR REPLACE INTO {compat.CHANGES} VALUES (?)", (serial,))
        database.commit()
    (folder / "secret").write_text(f"secret of {uuid}")
    for index in ("root/pypi", "alice/private"):
        file = folder / "server" / "+files" / index / "+f" / "abc" / "def" / f"{uuid}.whl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(uuid)


def give(store, monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(store.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.fixture
def backup(store, tmp_path):
    """A backup of store "one" at serial 7."""
    make(tmp_path, "one", 7)
    with pytest.MonkeyPatch.context() as patch:
        stream = io.BytesIO()
        patch.setattr(store.sys, "stdout", SimpleNamespace(buffer=stream))
        store.back_up(False)
    return stream.getvalue()


def test_a_backup_has_what_is_only_here(store, backup):
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
    assert not (store.DATA / "backup").exists()


def test_it_takes_the_place_of_the_store_and_can_be_undone(store, backup, monkeypatch, tmp_path):
    make(tmp_path, "one", 9)
    (tmp_path / "server" / "later").touch()
    give(store, monkeypatch, backup)
    assert store.restore(force=True)
    assert store.describe(tmp_path / "server")["serial"] == 9
    store.take_place()
    assert store.describe(tmp_path / "server") == {"uuid": "one", "serial": 7}
    # What the mirror had is still there.
    assert (tmp_path / "server/+files/root/pypi/+f/abc/def/one.whl").exists()
    assert not (tmp_path / "server" / "later").exists()
    assert store.describe(store.REPLACED / "server")["serial"] == 9
    store.undo()
    store.take_place()
    assert store.describe(tmp_path / "server")["serial"] == 9
    assert (tmp_path / "server" / "later").exists()


def test_the_same_again_changes_nothing(store, backup, monkeypatch):
    give(store, monkeypatch, backup)
    assert not store.restore(force=False)
    assert not store.INCOMING.exists()


def test_the_same_again_is_restored_if_forced(store, backup, monkeypatch):
    give(store, monkeypatch, backup)
    assert store.restore(force=True)


def test_a_damaged_database_that_answers_its_serial_is_restored(store, monkeypatch, tmp_path):
    make(tmp_path, "one", 7)
    database = tmp_path / "server" / compat.DATABASE
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE kv (key TEXT)")
        connection.executemany("INSERT INTO kv VALUES (?)", [("x" * 1000,)] * 50)
        connection.commit()
    stream = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(store.sys, "stdout", SimpleNamespace(buffer=stream))
        store.back_up(False)
    whole = database.read_bytes()
    # The root page of the table, which is the last that was created.
    page = whole.index(b"x" * 1000) // 4096 * 4096
    database.write_bytes(whole[:page] + bytes(4096) + whole[page + 4096 :])
    assert store.describe(tmp_path / "server")["serial"] == 7
    give(store, monkeypatch, stream.getvalue())
    assert store.restore(force=False)


@pytest.mark.parametrize("damage", ["damaged", None])
def test_a_private_file_that_is_damaged_or_missing_is_restored(store, backup, monkeypatch, tmp_path, damage):
    file = tmp_path / "server/+files/alice/private/+f/abc/def/one.whl"
    file.unlink()
    if damage:
        file.write_text(damage)
    give(store, monkeypatch, backup)
    assert store.restore(force=False)
    store.take_place()
    assert file.read_text() == "one"
    give(store, monkeypatch, backup)
    assert not store.restore(force=False)


def test_a_private_file_that_can_not_be_read_is_restored(store, backup, monkeypatch, tmp_path):
    file = tmp_path / "server/+files/alice/private/+f/abc/def/one.whl"

    def compare(one, other, shallow):
        if other == file:
            raise PermissionError(13, "Permission denied", str(file))
        return True

    give(store, monkeypatch, backup)
    monkeypatch.setattr(store.filecmp, "cmp", compare)
    assert store.restore(force=False)
    store.take_place()
    assert file.read_text() == "one"


@pytest.mark.parametrize("name", ["secret", "root-password"])
@pytest.mark.parametrize("damage", ["damaged", None])
def test_a_secret_that_is_damaged_or_missing_is_restored(store, monkeypatch, tmp_path, name, damage):
    make(tmp_path, "one", 7)
    (tmp_path / "root-password").write_text("password of one")
    stream = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(store.sys, "stdout", SimpleNamespace(buffer=stream))
        store.back_up(False)
    before = (tmp_path / name).read_text()
    give(store, monkeypatch, stream.getvalue())
    assert not store.restore(force=False)
    (tmp_path / name).unlink()
    if damage:
        (tmp_path / name).write_text(damage)
    give(store, monkeypatch, stream.getvalue())
    assert store.restore(force=False)
    store.take_place()
    assert (tmp_path / name).read_text() == before


@pytest.mark.parametrize(
    ("uuid", "serial", "users", "says"),
    [
        ("one", 8, {}, "the store has changed since: it is at 8"),
        (
            "two",
            3,
            {"root": {"indexes": {"pypi": {}}}, "bob": {"indexes": {"dev": {}}}},
            "the store is another one, which has bob",
        ),
        ("two", 3, {"root": {"indexes": {"pypi": {}, "more": {}}}}, "the store is another one, which has root/more"),
    ],
)
def test_a_newer_store_and_another_one_are_not_replaced_unless_told(
    store, backup, monkeypatch, tmp_path, uuid, serial, users, says
):
    make(tmp_path, uuid, serial)
    monkeypatch.setattr(store, "send", lambda method, path: {"result": users})
    give(store, monkeypatch, backup)
    with pytest.raises(store.Refused, match=says):
        store.restore(force=False)
    assert not store.INCOMING.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "server", "tmp"]


def test_a_new_store_that_has_nothing_of_its_own_is_replaced(store, backup, monkeypatch, tmp_path):
    make(tmp_path, "two", 30)
    give(store, monkeypatch, backup)
    assert store.restore(force=False)
    store.take_place()
    assert (tmp_path / "secret").read_text() == "secret of one"


def test_a_backup_of_another_release_is_refused(store, backup, monkeypatch):
    give(store, monkeypatch, backup)
    monkeypatch.setattr(store, "MAJOR", store.MAJOR + 1)
    with pytest.raises(store.Refused, match="set devpi_server_release to that of the backup"):
        store.restore(force=True)


@pytest.mark.parametrize("part", [0, 100, 5000])
def test_a_part_of_a_backup_is_none(store, backup, monkeypatch, part):
    give(store, monkeypatch, backup[:part])
    with pytest.raises(store.Refused, match="this is no backup of a mirror, or only a part of one"):
        store.restore(force=True)
    assert not store.INCOMING.exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("../outside", tarfile.REGTYPE), ("/etc/outside", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)]
)
def test_an_archive_that_leads_elsewhere_is_refused(store, monkeypatch, tmp_path, name, kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc"
        archive.addfile(member)
    give(store, monkeypatch, stream.getvalue())
    with pytest.raises(store.Refused, match="which no backup has"):
        store.restore(force=True)
    assert not list(tmp_path.glob("**/outside"))


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_crash_while_one_takes_the_place_is_mended_by_the_next(store, backup, monkeypatch, tmp_path, calls):
    make(tmp_path, "one", 8)
    give(store, monkeypatch, backup)
    store.restore(force=True)
    renames = iter([Path.rename] * (calls - 1))

    def rename(path, target):
        return next(renames)(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        # Secret and store, each put aside and put in place, are four.
        if calls < 5:
            with pytest.raises(StopIteration):
                store.take_place()
        else:
            store.take_place()
    store.take_place()
    assert store.describe(tmp_path / "server")["serial"] == 7
    assert store.describe(store.REPLACED / "server")["serial"] == 8
    assert not store.INCOMING.exists()


@pytest.fixture
def compacting(store, monkeypatch, tmp_path):
    """Have a store "one", and devpi's programs make "small" of it. Tells what was started and stopped."""
    make(tmp_path, "one", 700)
    done = SimpleNamespace(supervised=[], own=lambda server: {"alice": {"indexes": {}}}, answers=True)

    def run_devpi(what, environ, *command, script=""):
        if command[0] == "devpi-import":
            make(Path(environ["DEVPISERVER_SERVERDIR"]).parent, "small", 7)
            return
        server, folder = Path(command[2]), Path(command[-1])
        folder.mkdir()
        uuid = json.loads((server / ".nodeinfo").read_text())["uuid"]
        (folder / "dataindex.json").write_text(json.dumps({"users": done.own(uuid), "indexes": {}}))

    def send(method, path):
        if not done.answers:
            raise OSError("it does not answer")
        return {"result": {"alice": {}}}

    monkeypatch.setattr(store, "run_devpi", run_devpi)
    monkeypatch.setattr(store, "send", send)
    monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(store, "supervise", lambda what, program="devpi": done.supervised.append(what))
    monkeypatch.setattr(store, "disk", lambda: {"free": 10**12})
    monkeypatch.setattr(store, "FROZEN", tmp_path / "frozen")
    return done


def uuid_of(store) -> str:
    return json.loads((store.DATA / "server" / ".nodeinfo").read_text())["uuid"]


def is_tidy(store) -> bool:
    return not [name for name in ("compact", "replaced", "incoming", "frozen") if (store.DATA / name).exists()]


def test_a_store_made_small_has_the_files_of_mirrors(store, compacting):
    mirrored = "server/+files/root/pypi/+f/abc/def/one.whl"
    file = (store.DATA / mirrored).stat().st_ino
    store.compact()
    assert uuid_of(store) == "small"
    files = store.DATA / "server" / "+files"
    assert (store.DATA / mirrored).stat().st_ino == file
    assert not (files / "alice/private/+f/abc/def/one.whl").exists()
    assert compacting.supervised == ["stopProcess", "startProcess"]
    assert is_tidy(store)


def test_what_has_changed_meanwhile_is_not_lost(store, compacting):
    compacting.own = lambda uuid: {"alice": {"indexes": {}}} | ({"bob": {}} if uuid == "one" else {})
    with pytest.raises(store.Refused, match="changed something meanwhile"):
        store.compact()
    assert uuid_of(store) == "one"
    assert compacting.supervised == ["stopProcess", "startProcess"]
    assert is_tidy(store)


def test_a_small_store_that_devpi_can_not_serve_goes_again(store, compacting):
    compacting.answers = False
    with pytest.raises(store.Refused, match="it does not answer"):
        store.compact()
    assert uuid_of(store) == "one"
    assert compacting.supervised == ["stopProcess", "startProcess"] * 2
    assert is_tidy(store)


@pytest.mark.parametrize("name", ["replaced", "frozen"])
def test_a_store_is_left_alone_while_somebody_else_is_at_it(store, compacting, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(store.Refused):
        store.compact()
    assert (uuid_of(store), compacting.supervised) == ("one", [])
    assert (tmp_path / name).exists()


def test_exports_are_compared_by_what_matters(store, tmp_path):
    for name, order, modified in (("one", 1, "Mon"), ("two", -1, "Tue")):
        files = [{"relpath": path, "entrymapping": {"hashes": path, "last_modified": modified}} for path in ("a", "b")]
        (tmp_path / name).mkdir()
        told = {
            "users": {},
            "indexes": {"alice/private": {"files": files[::order]}, "root/pypi": {}},
            "devpi_server": name,
        }
        (tmp_path / name / "dataindex.json").write_text(json.dumps(told))
    assert store.exported(tmp_path / "one") == store.exported(tmp_path / "two")


def test_the_mirrors_of_an_export(store, tmp_path):
    types = {"root/pypi": "mirror", "root/other": "remote", "alice/private": "stage"}
    indexes = {name: {"indexconfig": {"type": kind}} for name, kind in types.items()}
    (tmp_path / "dataindex.json").write_text(json.dumps({"indexes": indexes}))
    assert store.mirrors_of(tmp_path) == ["root/pypi", "root/other"]


@pytest.fixture
def old(store, monkeypatch, tmp_path):
    """The data directory of the release before, with an export of it. ``imported`` has the commands that were run."""
    folder = tmp_path / "old"
    make(folder, "one", 700)
    (folder / "root-password").write_text("password of one")
    index = folder / "pages" / "root" / "pypi" / "0123"
    index.mkdir(parents=True)
    (index / "six.page").write_text("page")
    os.utime(index / "six.page", (5, 5))
    (folder / "export").mkdir()
    indexes = {"root/pypi": {"indexconfig": {"type": "mirror"}}, "alice/private": {"indexconfig": {"type": "stage"}}}
    (folder / "export" / "dataindex.json").write_text(json.dumps({"indexes": indexes}))
    monkeypatch.setattr(store, "DATA", tmp_path / "new")
    for name in ("STORE", "PAGES", "TEMPORARY"):
        monkeypatch.setattr(store, name, tmp_path / "new" / getattr(store, name).name)
    store.DATA.mkdir()
    imported = []
    monkeypatch.setattr(store, "run_devpi", lambda what, environ, *command: imported.append(command))
    return SimpleNamespace(folder=folder, imported=imported)


def test_a_new_release_has_what_the_one_before_had(store, supervisor, old):
    store.adopt(old.folder)
    assert old.imported == [("devpi-import", "--no-events", str(old.folder / "export"))]
    assert (store.DATA / "secret").read_text() == "secret of one"
    assert (store.DATA / "root-password").read_text() == "password of one"
    page = store.PAGES / "root/pypi/0123/six.page"
    assert (page.read_text(), page.stat().st_mtime) == ("page", 5)
    (file,) = [path for path in (store.STORE / "+files").rglob("*") if path.is_file()]
    assert (str(file.relative_to(store.STORE)), file.read_text()) == ("+files/root/pypi/+f/abc/def/one.whl", "one")
    # The release before goes on to serve from its own, until the new one has replaced it.
    assert file.stat().st_nlink == 1


def test_a_release_that_had_no_pages_is_migrated(store, supervisor, old):
    shutil.rmtree(old.folder / "pages")
    store.adopt(old.folder)
    assert (store.DATA / "secret").exists()


def test_only_missing_files_of_a_mirror_are_copied(store, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for name, folder in (("a.whl", here), ("b.whl", here), ("b.whl", there), ("c.whl-0123-tmp", here)):
        path = folder / "+files" / "root/pypi/+f/abc/def" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(folder))
    store.copy_missing("root/pypi", here, there)
    found = {path.name: path.read_text() for path in there.rglob("*") if path.is_file()}
    assert found == {"a.whl": str(here), "b.whl": str(there)}


def test_a_file_that_is_evicted_while_others_are_copied_is_left_out(store, tmp_path):
    for name in ("a.whl", "b.whl"):
        path = tmp_path / "here" / "+files" / "root/pypi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def evict_and_copy(path, target):
        path.unlink(missing_ok=path.name == "b.whl")
        if path.name == "a.whl":
            raise FileNotFoundError(path)
        target.touch()

    store.copy_missing("root/pypi", tmp_path / "here", tmp_path / "there", evict_and_copy)
    assert [path.name for path in (tmp_path / "there").rglob("*.whl")] == ["b.whl"]
