# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences between devpi releases in compat.py, in the installed devpi-server."""

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


def test_devpi_6_has_the_same_names(compat, monkeypatch):
    monkeypatch.setattr(compat, "MAJOR", 6)
    assert compat.renamed(VALUES) == VALUES


def test_devpi_7_has_other_names_and_lacks_some(compat, monkeypatch):
    monkeypatch.setattr(compat, "MAJOR", 7)
    assert compat.renamed(VALUES) == {"remote_url": "u", "DEVPISERVER_REMOTE_REFRESH_DELAY": "300", "other": 1}


def test_the_last_serial_is_in_the_database(compat, tmp_path):
    command = [str(Path(sys.executable).with_name("devpi-init")), "--serverdir", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    with closing(sqlite3.connect(tmp_path / compat.DATABASE)) as database:
        (serial,) = database.execute(compat.LAST_SERIAL).fetchone()
    assert serial >= 0
