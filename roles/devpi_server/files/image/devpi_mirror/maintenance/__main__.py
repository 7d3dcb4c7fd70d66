# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintain the data directory, and report the mirror's status: ``python -m devpi_mirror.maintenance COMMAND``

The commands are ``used``, ``all``, ``backup`` and ``status``.

``used`` reads which files were requested since the last run, and

- compares each of them with the hash in its path, quarantines damaged ones and downloads them again,
- evicts the least recently used mirrored files, if the cache is limited and a request was a cache miss,
- logs each new problem once, and once that no problems remain.

``all`` also

- removes what interrupted downloads have left,
- evicts mirrored files that were not used for too long, and pages that were not requested for a year,
- checks all files, if a check is due, or was requested by a start that found a file missing,
- compacts devpi's database, if it is limited and too large.

``backup`` creates a scheduled backup if one is due, see ``backups``. It can take long, and runs beside the others.

``status`` prints the mirror's status as JSON.

Evicted and quarantined files of mirror indexes are downloaded again when a client requests them. Files of other indexes are
never removed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..config import DATA_LOCK
from ..devpi_api import UnavailableError
from ..locks import locked
from . import abandoned, backups, compaction, eviction, integrity, status, usage
from .limits import byte_limit
from .state import State, read_state, write_state

LOCK = Path("/tmp/maintenance.lock")


def run_step(state: State, name: str, step: Callable[[], None]) -> None:
    """Run one step of the maintenance, and record in the state whether it failed."""
    try:
        step()
    except UnavailableError:
        # The next run does what needs devpi, and ``status`` reports that devpi does not respond.
        return
    except Exception as exc:
        state["failed_steps"][name] = f"{type(exc).__name__}: {exc}"
    else:
        state["failed_steps"].pop(name, None)


def run(everything: bool) -> None:
    """Maintain the files that were requested, or everything."""
    state = read_state()
    requests = usage.read_requests()

    def evict_files() -> None:
        if everything or (byte_limit("CACHE_MAX_SIZE") and usage.has_misses(requests)):
            eviction.evict_files()

    def scrub() -> None:
        if integrity.is_scrub_due(state):
            integrity.scrub(state)

    def compact() -> None:
        # While a backup copies the data, a compaction waits for the next run.
        if compaction.is_due(state):
            with suppress(BlockingIOError), locked(DATA_LOCK, wait=False):
                compaction.compact(state)

    if everything:
        run_step(state, "remove abandoned files", abandoned.remove_abandoned)
    run_step(state, "check used files", lambda: integrity.check_used(state, usage.record_requests(state, requests)))
    run_step(state, "evict files", evict_files)
    if everything:
        run_step(state, "evict pages", eviction.evict_pages)
        run_step(state, "check all files", scrub)
        run_step(state, "compact the database", compact)
    status.log_problems(state)
    write_state(state)


def main() -> None:
    os.nice(19)
    if sys.argv[1:] == ["status"]:
        print(json.dumps(status.collect()))
        return
    if sys.argv[1:] == ["backup"]:
        os.umask(0o077)
        # A shell starts a process in the background with SIGINT ignored, which stops the devpi-server of the check.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        backups.run(time.time())
        return
    # Each run reads the state and writes it at its end.
    with locked(LOCK):
        run(everything=sys.argv[1:] == ["all"])


if __name__ == "__main__":
    main()
