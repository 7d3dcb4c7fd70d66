# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for the tests of the maintenance: a data directory, and the package's modules that use it."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

MODULES = (
    "__main__",
    "abandoned",
    "backups",
    "compaction",
    "data_directory",
    "eviction",
    "integrity",
    "limits",
    "replication",
    "state",
    "status",
    "usage",
)


@pytest.fixture
def maintenance(load, monkeypatch, tmp_path):
    """The modules of the package ``maintenance``, with ``config``, and the paths that devpi was asked for as ``requested``."""
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    for variable, name in (("DEVPI_MIRROR_RUN", "run"), ("DEVPI_MIRROR_BACKUPS", "backups")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    modules = SimpleNamespace(config=load("config"), devpi_api=load("devpi_api"), requested=[])
    for name in MODULES:
        setattr(modules, name.strip("_"), load(f"maintenance.{name}"))
    for folder in ("server/+files", "nginx/tmp", "tmp", "pages"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(modules.integrity.nginx, "reload", lambda: None)
    monkeypatch.setattr(modules.state, "STARTED", tmp_path / "started")
    monkeypatch.setattr(modules.data_directory, "mirror_indexes", lambda: {"root/pypi"})
    monkeypatch.setattr(modules.devpi_api, "send", lambda _method, path, **_options: modules.requested.append(path))
    return modules


@pytest.fixture
def files(maintenance) -> Path:
    return maintenance.config.FILES


@pytest.fixture
def store_file(files):
    """Return a function that stores a file, and returns its path below devpi's files."""

    def store(content: bytes, index: str = "root/pypi", kind: str = "sha256", name: str = "a.whl") -> str:
        digest = hashlib.new(kind, content).hexdigest()
        path = f"{index}/+f/{digest[:3]}/{digest[3:16]}/{name}"
        (files / path).parent.mkdir(parents=True)
        (files / path).write_bytes(content)
        return path

    return store


@pytest.fixture
def fsck(maintenance, monkeypatch):
    """Return a function that sets the output of devpi-fsck."""

    def set_output(text: str) -> None:
        monkeypatch.setattr(maintenance.integrity, "FSCK", ["/bin/echo", text])

    return set_output


@pytest.fixture
def devpi_unavailable(maintenance, monkeypatch):
    """Return a context manager within which devpi is unavailable."""

    def fail():
        raise maintenance.devpi_api.UnavailableError("Connection refused")

    @contextmanager
    def unavailable():
        with monkeypatch.context() as patched:
            patched.setattr(maintenance.data_directory, "mirror_indexes", fail)
            yield

    return unavailable
