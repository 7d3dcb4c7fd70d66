# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for the tests of the package ``store``: data directories, and the modules that use them."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from devpi_mirror import compat

MODULES = (
    "__main__",
    "archive",
    "backup",
    "commands",
    "database",
    "errors",
    "export",
    "freeze",
    "mirrored_files",
    "rebuild",
    "restore",
)


@pytest.fixture
def store(load, monkeypatch, tmp_path):
    """The modules of the package ``store``, with ``config``. devpi has the user root with the index pypi."""
    data = tmp_path / "data"
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(data))
    monkeypatch.setenv("DEVPI_MIRROR_RUN", str(tmp_path))
    modules = SimpleNamespace(
        config=load("config"), devpi_api=load("devpi_api"), data_directory=load("maintenance.data_directory")
    )
    for name in MODULES:
        setattr(modules, name.strip("_"), load(f"store.{name}"))
    monkeypatch.setattr(modules.data_directory, "mirror_indexes", lambda: {"root/pypi"})
    users = {"root": {"indexes": {"pypi": {}}}}
    monkeypatch.setattr(modules.devpi_api, "send", lambda *_arguments: {"result": users})
    data.mkdir()
    return modules


@pytest.fixture
def data(store) -> Path:
    return store.config.DATA


@pytest.fixture
def create():
    """Return a function that creates the data directory of a mirror."""

    def create_data(folder: Path, uuid: str, serial: int) -> None:
        table = compat.LAST_SERIAL.rpartition(" ")[2]
        (folder / "server").mkdir(parents=True, exist_ok=True)
        (folder / "server" / ".nodeinfo").write_text(json.dumps({"uuid": uuid}))
        with closing(sqlite3.connect(folder / "server" / compat.DATABASE)) as database:
            database.execute(f"CREATE TABLE IF NOT EXISTS {table} (serial INTEGER PRIMARY KEY)")
            database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?)", (serial,))
            database.commit()
        (folder / "secret").write_text(f"secret of {uuid}")
        for index in ("root/pypi", "alice/private"):
            file = folder / "server" / "+files" / index / "+f" / "abc" / "def" / f"{uuid}.whl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(uuid)

    return create_data


@pytest.fixture
def write_backup(store, monkeypatch):
    """Return a function that returns a backup of the data directory."""

    def write(has_mirrored_files: bool = False) -> bytes:
        stream = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(store.backup.sys, "stdout", SimpleNamespace(buffer=stream))
            store.backup.back_up(has_mirrored_files)
        return stream.getvalue()

    return write


@pytest.fixture
def backup(data, create, write_backup) -> bytes:
    """A backup of the data directory "one" at serial 7."""
    create(data, "one", 7)
    return write_backup()


@pytest.fixture
def restore(store, monkeypatch):
    """Return a function that restores a backup, and returns whether it was staged."""

    def restore_backup(content: bytes, force: bool = False) -> bool:
        monkeypatch.setattr(store.archive.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        return store.restore.restore(force)

    return restore_backup
