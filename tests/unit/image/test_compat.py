"""The names of the image's compat.py, in the devpi-server that the tests have."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

VALUES = {
    "mirror_url": "u",
    "mirror_provides_core_metadata": True,
    "DEVPISERVER_MIRROR_CACHE_EXPIRY": "300",
    "other": 1,
}


@pytest.fixture
def compat(load):
    return load("compat")


def test_in_6_nothing_is_renamed(compat, monkeypatch):
    monkeypatch.setattr(compat, "MAJOR", 6)
    assert compat.renamed(VALUES) == VALUES


def test_in_7_what_does_not_exist_is_left_out(compat, monkeypatch):
    monkeypatch.setattr(compat, "MAJOR", 7)
    assert compat.renamed(VALUES) == {"remote_url": "u", "DEVPISERVER_REMOTE_REFRESH_DELAY": "300", "other": 1}


def test_devpi_has_the_database_of_its_release(compat, tmp_path):
    store = ["--serverdir", str(tmp_path)]
    subprocess.run([str(Path(sys.executable).with_name("devpi-init")), *store], check=True, capture_output=True)
    with closing(sqlite3.connect(tmp_path / compat.DATABASE)) as database:
        (serial,) = database.execute(f"SELECT MAX(serial) FROM {compat.CHANGES}").fetchone()
    assert serial >= 0
