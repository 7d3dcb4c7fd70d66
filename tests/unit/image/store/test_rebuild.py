# SPDX-License-Identifier: GPL-3.0-or-later
"""How a data directory is compacted, and when the current one stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def devpi(store, data, create, monkeypatch):
    """devpi's commands, with which the data directory "one" is compacted to "compacted".

    ``supervised`` lists the calls of supervisor, ``users`` returns the exported users, and ``responds`` is whether devpi does.
    """
    create(data, "one", 700)
    devpi = SimpleNamespace(supervised=[], users=lambda _uuid: {"alice": {"indexes": {}}}, responds=True)

    def run(_failure, environ, *command):
        if command[0] == "devpi-import":
            create(Path(environ["DEVPISERVER_SERVERDIR"]).parent, "compacted", 7)
            return
        server, folder = Path(command[2]), Path(command[-1])
        folder.mkdir()
        uuid = json.loads((server / ".nodeinfo").read_text())["uuid"]
        (folder / "dataindex.json").write_text(json.dumps({"users": devpi.users(uuid), "indexes": {}}))

    def send(*_arguments):
        if not devpi.responds:
            raise store.devpi_api.UnavailableError("Connection refused")
        return {"result": {"alice": {}}}

    monkeypatch.setattr(store.commands, "run", run)
    monkeypatch.setattr(store.devpi_api, "send", send)
    monkeypatch.setattr(store.rebuild.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(store.freeze, "supervise", lambda method, *_program: devpi.supervised.append(method))
    monkeypatch.setattr(store.data_directory, "disk_space", lambda: {"free": 10**12})
    monkeypatch.setattr(store.freeze, "FROZEN", data / "frozen")
    return devpi


def uuid_of(data: Path) -> str:
    return json.loads((data / "server" / ".nodeinfo").read_text())["uuid"]


def is_clean(data: Path) -> bool:
    return not [name for name in ("compact", "replaced", "incoming", "frozen") if (data / name).exists()]


def test_a_compacted_data_directory_has_the_mirrored_files(store, data, devpi):
    mirrored = data / "server/+files/root/pypi/+f/abc/def/one.whl"
    inode = mirrored.stat().st_ino
    store.rebuild.compact()
    assert uuid_of(data) == "compacted"
    assert mirrored.stat().st_ino == inode
    assert not (data / "server/+files/alice/private/+f/abc/def/one.whl").exists()
    assert devpi.supervised == ["stopProcess", "startProcess"]
    assert is_clean(data)


def test_what_was_modified_meanwhile_is_not_lost(store, data, devpi):
    devpi.users = lambda uuid: {"alice": {"indexes": {}}} | ({"bob": {}} if uuid == "one" else {})
    with pytest.raises(store.errors.DataError, match="modified during the compaction"):
        store.rebuild.compact()
    assert uuid_of(data) == "one"
    assert devpi.supervised == ["stopProcess", "startProcess"]
    assert is_clean(data)


def test_the_previous_data_is_activated_again_if_devpi_does_not_respond(store, data, devpi):
    devpi.responds = False
    with pytest.raises(store.errors.DataError, match="Connection refused"):
        store.rebuild.compact()
    assert uuid_of(data) == "one"
    assert devpi.supervised == ["stopProcess", "startProcess"] * 2
    assert is_clean(data)


@pytest.mark.parametrize("name", ["replaced", "frozen"])
def test_a_restore_and_an_upgrade_prevent_a_compaction(store, data, devpi, name):
    (data / name).mkdir()
    with pytest.raises(store.errors.DataError):
        store.rebuild.compact()
    assert (uuid_of(data), devpi.supervised) == ("one", [])
    assert (data / name).exists()


def test_a_failed_compaction_does_not_activate_what_a_restore_replaced(store, data, devpi, create, monkeypatch):
    def fail():
        raise store.devpi_api.UnavailableError("Connection refused")

    create(data / "replaced", "replaced", 3)
    os.utime(data / "replaced", (1, 1))
    monkeypatch.setattr(store.data_directory, "mirror_indexes", fail)
    with pytest.raises(store.errors.DataError):
        store.rebuild.compact()
    assert (uuid_of(data), devpi.supervised) == ("one", [])
    assert is_clean(data)


def test_a_full_disk_prevents_a_compaction(store, data, devpi, monkeypatch):
    monkeypatch.setattr(store.data_directory, "disk_space", lambda: {"free": store.config.RESERVE})
    with pytest.raises(store.errors.DataError, match="needs 64 MB"):
        store.rebuild.compact()
    assert (uuid_of(data), devpi.supervised) == ("one", [])
