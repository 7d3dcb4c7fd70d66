"""What the image's store.py does: backups, and a restored store that takes the place of another."""

from __future__ import annotations

import importlib.util
import io
import json
import sqlite3
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

# ansible-test makes environments of its own, which have no devpi-server.
pytest.importorskip("devpi_server")

FILE = Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "store.py"


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(FILE.parent)
    for name in ("caretaker", "names", "store"):
        sys.modules.pop(name, None)
    spec = importlib.util.spec_from_file_location("store", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "mirror_indexes", lambda: {"root/pypi"})
    monkeypatch.setattr(module, "ask", lambda path, **options: {"result": {"root": {"indexes": {"pypi": {}}}}})
    (tmp_path / "tmp").mkdir()
    return module


def make(folder: Path, uuid: str, serial: int) -> None:
    """Lay out what a store consists of."""
    (folder / "server").mkdir(parents=True, exist_ok=True)
    (folder / "server" / ".nodeinfo").write_text(json.dumps({"uuid": uuid}))
    with closing(sqlite3.connect(folder / "server" / ".sqlite")) as database:
        database.execute("CREATE TABLE IF NOT EXISTS changelog (serial INTEGER PRIMARY KEY)")
        database.execute("INSERT OR REPLACE INTO changelog VALUES (?)", (serial,))
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
    assert {"secret", "server/.sqlite", "server/.nodeinfo", "server/+files/alice/private/+f/abc/def/one.whl"} <= set(
        names
    )
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
    monkeypatch.setattr(store, "ask", lambda path: {"result": users})
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
    monkeypatch.setattr(store, "MAJOR", 7)
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
