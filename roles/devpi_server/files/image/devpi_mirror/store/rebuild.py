# SPDX-License-Identifier: GPL-3.0-or-later
"""Compact the data directory: rebuild it with the current state alone.

devpi's database keeps every earlier state. devpi-export and devpi-import create a new data directory, while the mirror serves
from the current one and refuses changes. The new one is activated only if an export of it equals one of the current one.
"""

from __future__ import annotations

import os
import shutil
import time
import xmlrpc.client
from contextlib import suppress

from .. import devpi_api
from ..config import DATA, RESERVE, SERVERDIR
from ..maintenance import data_directory
from . import commands, freeze
from .errors import DataError
from .export import export, read_export
from .mirrored_files import link_missing
from .restore import INCOMING, REPLACED, activate, undo

COMPACT = DATA / "compact"
# Seconds for which a compaction does not remove the data that a restore has replaced.
KEEP_REPLACED = 30 * 86400


def await_users() -> set[str]:
    """Return devpi's users, once it responds. Raises OSError or ValueError if it does not within a minute."""
    for _attempt in range(600):
        with suppress(OSError, ValueError):
            return set(devpi_api.send("GET", "/")["result"])
        time.sleep(0.1)
    return set(devpi_api.send("GET", "/")["result"])


def require_conditions() -> None:
    """Raise DataError if the data directory can't be compacted now."""
    needed = 2 * data_directory.database_size() + RESERVE
    if data_directory.disk_space()["free"] < needed:
        raise DataError(f"compaction needs {needed // 10**6} MB of free disk space")
    if REPLACED.exists() and time.time() - REPLACED.stat().st_mtime < KEEP_REPLACED:
        raise DataError(f"data that a restore replaced is retained for 30 days: remove {REPLACED} to compact earlier")
    if freeze.FROZEN.exists():
        raise DataError("the mirror is being upgraded")


def compact() -> None:
    """Rebuild the data directory. Raises DataError, and the current one stays."""
    require_conditions()
    if REPLACED.exists():
        # What a restore has replaced must not be activated if the compaction fails.
        shutil.rmtree(REPLACED)
    freeze.FROZEN.touch()
    shutil.rmtree(COMPACT, ignore_errors=True)
    try:
        mirrors = data_directory.mirror_indexes()
        build()
        replace(mirrors)
    except (OSError, ValueError, xmlrpc.client.Fault) as exc:
        if REPLACED.exists():
            activate_previous()
        raise DataError(f"devpi-server can't serve from the compacted data directory ({exc})") from exc
    finally:
        freeze.FROZEN.unlink(missing_ok=True)
        shutil.rmtree(COMPACT, ignore_errors=True)


def build() -> None:
    """Create a data directory from an export of the current one, and export it for the comparison."""
    server = COMPACT / "incoming" / "server"
    COMPACT.mkdir(mode=0o700)
    export(SERVERDIR, COMPACT / "export")
    server.parent.mkdir(mode=0o700)
    environ = dict(os.environ, DEVPISERVER_SERVERDIR=str(server))
    options = ["--no-events", "--hard-links"]
    commands.run("devpi-import failed", environ, "devpi-import", *options, str(COMPACT / "export"))
    export(server, COMPACT / "compacted")


def replace(mirrors: set[str]) -> None:
    """Activate the new data directory, and remove the previous one once devpi serves from the new one."""
    freeze.supervise("stopProcess")
    try:
        export(SERVERDIR, COMPACT / "current")
        if read_export(COMPACT / "current") != read_export(COMPACT / "compacted"):
            raise DataError("users, indexes or private files were modified during the compaction")
        for index in mirrors:
            link_missing(index, SERVERDIR, COMPACT / "incoming" / "server")
        (COMPACT / "incoming").rename(INCOMING)
        activate()
    finally:
        freeze.supervise("startProcess")
    if await_users() != read_export(COMPACT / "compacted")["users"].keys():
        raise OSError("its users differ from the exported ones")
    shutil.rmtree(REPLACED)


def activate_previous() -> None:
    """Activate the previous data directory again."""
    freeze.supervise("stopProcess")
    undo()
    activate()
    freeze.supervise("startProcess")
    shutil.rmtree(REPLACED)
