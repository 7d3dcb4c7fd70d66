# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files clients requested, and how many requests were cache hits, as logged by nginx."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ..config import DATA, FILES
from .data_directory import FILE_PATH
from .state import State

REQUEST_LOG = DATA / "nginx" / "uses.log"


def read_requests() -> list[tuple[str, str]]:
    """Return the requests since the last call, as the response's X-Cached and the path, and empty the log."""
    try:
        with REQUEST_LOG.open("r+", errors="replace") as stream:
            lines = stream.read().splitlines()
            # nginx appends, so it continues at the new end.
            stream.truncate(0)
    except OSError:
        return []
    return [(cached.lower(), path) for cached, _space, path in (line.partition(" ") for line in lines) if path]


def has_misses(requests: Iterable[tuple[str, str]]) -> bool:
    return any(cached not in ("hit", "stale") for cached, _path in requests)


def record_requests(state: State, requests: Iterable[tuple[str, str]]) -> list[str]:
    """Count requests, and set the access time of each requested file. Returns these files, as paths below devpi's files."""
    now = time.time()
    used = set()
    for cached, path in requests:
        # With EXPIRED and its like, a client waited for devpi too.
        state["requests"][cached if cached in ("hit", "stale") else "miss"] += 1
        name = path.lstrip("/")
        if FILE_PATH.fullmatch(name) and name not in used and set_access_time(name, now):
            used.add(name)
    return sorted(used)


def set_access_time(name: str, now: float) -> bool:
    """Set the access time of a file, and return whether it exists."""
    try:
        os.utime(FILES / name, (now, (FILES / name).stat().st_mtime))
    except OSError:
        return False
    return True
