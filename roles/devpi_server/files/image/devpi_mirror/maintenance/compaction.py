# SPDX-License-Identifier: GPL-3.0-or-later
"""Compact devpi's database when it exceeds its limit. ``devpi_mirror.store.rebuild`` does it, in a process of its own."""

from __future__ import annotations

import subprocess
import time

from ..config import BIN
from .data_directory import database_size
from .limits import byte_limit
from .state import State

COMPACT = [str(BIN / "python"), "-m", "devpi_mirror.store", "compact"]
# Seconds between two compactions, and how much larger the database must have become since the last one.
COMPACT_EVERY = 86400
COMPACT_GROWTH = 1.25


def is_due(state: State) -> bool:
    """Return whether the database exceeds its limit, was not compacted lately, and has grown since."""
    max_size, last = byte_limit("DATABASE_MAX_SIZE"), state["compacted"]
    if not max_size or (last and time.time() - last["at"] < COMPACT_EVERY):
        return False
    return database_size() > max(max_size, COMPACT_GROWTH * last["bytes"] if last else 0)


def compact(state: State) -> None:
    """Compact the database, and record the result."""
    before = database_size()
    done = subprocess.run(COMPACT, capture_output=True, text=True, check=False)
    after = database_size()
    error = "" if done.returncode == 0 else done.stderr.strip()[-300:]
    state["compacted"] = {"at": time.time(), "bytes": after, "error": error}
    if error:
        print(f"Could not compact devpi's database: {error}", flush=True)
    else:
        print(f"Compacted devpi's database from {before:,} to {after:,} bytes", flush=True)
