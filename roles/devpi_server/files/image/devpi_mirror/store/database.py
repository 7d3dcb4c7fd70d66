# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and copy devpi's database."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ..compat import DATABASE, LAST_SERIAL
from .errors import DataError


def describe(server: Path) -> dict[str, Any]:
    """Return ``uuid`` and ``serial`` of a data directory. Raises DataError if it can't be read."""
    try:
        uuid = json.loads((server / ".nodeinfo").read_text())["uuid"]
        with closing(sqlite3.connect(f"file:{server / DATABASE}?mode=ro", uri=True)) as database:
            (serial,) = database.execute(LAST_SERIAL).fetchone()
    except (OSError, ValueError, KeyError, sqlite3.Error) as exc:
        raise DataError(f"could not read the data directory {server} ({exc})") from exc
    return {"uuid": uuid, "serial": serial}


def is_intact(server: Path) -> bool:
    """Return whether the whole database can be read. A damaged one can still return its serial."""
    try:
        with closing(sqlite3.connect(f"file:{server / DATABASE}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def copy(server: Path, target: Path) -> None:
    """Copy the database in its current state, while it is in use. Raises DataError."""
    try:
        source = sqlite3.connect(f"file:{server / DATABASE}?mode=ro", uri=True)
        with closing(source) as database, closing(sqlite3.connect(target)) as written:
            database.backup(written)
    except sqlite3.Error as exc:
        raise DataError(f"could not copy the database ({exc})") from exc
