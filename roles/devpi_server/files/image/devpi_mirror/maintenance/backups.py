# SPDX-License-Identifier: GPL-3.0-or-later
"""Create scheduled backups in the folder that the role mounts, verify them, and remove old ones.

A backup is verified like one of the playbook: another process unpacks it into an empty folder, compares all files with their
hashes, and starts devpi-server from it. Until then, its name begins with a dot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config import BACKUPS, BIN, DATA, RESERVE, RUN, SERVERDIR
from ..devpi_api import UnavailableError
from ..locks import locked
from . import data_directory
from .limits import time_limit

# On the volume, so that a restart does not change the schedule.
SCHEDULE = DATA / "backup-schedule.json"
# When maintenance.sh runs the next backup, in seconds since the epoch.
DUE = RUN / "backup-due"
LOCK = RUN / "backup.lock"
# The data directory and the folder of temporary files of the devpi-server that verifies a backup.
CHECK = DATA / "backup-check"
CHECK_RUN = RUN / "backup-check"
STORE = [str(BIN / "python"), "-m", "devpi_mirror.store"]
# Seconds after a failure, and while devpi does not respond, until the next attempt.
RETRY = 3600
UNAVAILABLE_RETRY = 60
# Seconds after a start until an overdue backup is a problem: the host may have been off.
START_GRACE = 3600
# How often a backup is tried. A file can be evicted while it is copied, and then its check fails.
ATTEMPTS = 2
ATTEMPT_PAUSE = 5

Schedule = dict[str, Any]


class BackupError(Exception):
    """A backup could not be created. The text is the cause and what to do."""


def read_schedule() -> Schedule:
    """Return when the last backup began that succeeded (``last``), the last attempt (``attempted``), and its ``error``."""
    read: Any = {}
    with suppress(OSError, ValueError):
        read = json.loads(SCHEDULE.read_text())
    return {"last": None, "attempted": None, "error": ""} | (read if isinstance(read, dict) else {})


def write_schedule(schedule: Schedule) -> None:
    """Replace the schedule atomically. If the disk is full, the next backup does it."""
    staged = SCHEDULE.with_name(SCHEDULE.name + ".new")
    with suppress(OSError):
        staged.write_text(json.dumps(schedule))
        staged.replace(SCHEDULE)


def due_at(schedule: Schedule, every: float, now: float) -> float:
    """Return when the next backup is due. The first one is due at once, as is one after the clock was set back."""
    attempted = schedule["attempted"]
    if attempted is None or attempted > now:
        return now
    return float(attempted + (min(every, RETRY) if schedule["error"] else every))


def find_problems(now: float, started: float) -> list[str]:
    """Return the problems of scheduled backups, if they are enabled. ``started`` is the start of the container."""
    every, schedule = time_limit("BACKUP_EVERY"), read_schedule()
    if not every:
        return []
    if schedule["error"]:
        return [
            f"The last scheduled backup failed: {schedule['error']}. Existing backups were not changed, and the mirror tries "
            "again within an hour."
        ]
    last = schedule["last"] or started
    if now > max(last + 2 * every, started + START_GRACE):
        made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(last)) if schedule["last"] else "never"
        return [
            f"A scheduled backup is overdue (the last one: {made}). Existing backups were not changed. See the mirror's log, "
            "and run devpi.mirror.backup."
        ]
    return []


def archive_pattern() -> str:
    """Return a pattern of the names of backups."""
    return re.escape(os.environ.get("DEVPI_MIRROR_BACKUP_NAME", "devpi")) + r"-\d{8}T\d{6}Z\.tar"


def find_archives(pattern: str) -> list[Path]:
    """Return the files in the folder whose names match, the newest first."""
    return sorted((path for path in BACKUPS.iterdir() if re.fullmatch(pattern, path.name)), reverse=True)


def remove_leftovers() -> None:
    """Remove what an interrupted backup has left."""
    shutil.rmtree(CHECK, ignore_errors=True)
    shutil.rmtree(CHECK_RUN, ignore_errors=True)
    for path in find_archives(r"\." + archive_pattern()):
        path.unlink()


def rotate() -> None:
    """Remove all but the newest backups."""
    for path in find_archives(archive_pattern())[int(os.environ["DEVPI_MIRROR_BACKUP_KEEP"]) :]:
        path.unlink()


def has_mirrored_files() -> bool:
    return bool(os.environ.get("DEVPI_MIRROR_BACKUP_MIRRORED_FILES"))


def backup_size() -> int:
    """Return about how many bytes a backup has. Raises UnavailableError."""
    # It imports devpi, which the other processes of the maintenance do not need.
    from ..store.backup import list_files

    excluded = data_directory.mirror_indexes()
    size = data_directory.database_size()
    for path in list_files(SERVERDIR, set() if has_mirrored_files() else excluded):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def require_space() -> None:
    """Raise BackupError if the disks have no room for a backup and the copy that is unpacked from it."""
    size = backup_size()
    has_one_disk = BACKUPS.stat().st_dev == DATA.stat().st_dev
    for folder, name in ((DATA, "the disk of Docker's data"), (BACKUPS, "the disk of the backups")):
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        # With less, the mirror reports that the disk is full.
        needed = size * (1 + has_one_disk) + 2 * RESERVE
        if free < needed:
            raise BackupError(
                f"{name} has {free // 10**6} MB free, and a backup needs {needed // 10**6} MB. Free some space, decrease "
                "devpi_server_backup_keep, or set devpi_server_backup_folder to a location with more space"
            )


def run_store(environ: Mapping[str, str], *arguments: str, **streams: Any) -> None:
    """Run a command of the store. Raises BackupError with the last line that it printed."""
    done = subprocess.run([*STORE, *arguments], env=environ, stderr=subprocess.PIPE, text=True, check=False, **streams)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise BackupError(lines[-1].rstrip("."))


def check_environment() -> dict[str, str]:
    """Return the environment of the check: without the mirror's settings, and with other folders."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("DEVPISERVER_", "DEVPI_MIRROR_"))
    }
    # One request needs few threads, and the container's number of processes is limited.
    environ |= {"DEVPI_MIRROR_DATA": str(CHECK), "DEVPI_MIRROR_RUN": str(CHECK_RUN), "DEVPISERVER_THREADS": "4"}
    return environ | {"HOME": str(CHECK), "TMPDIR": str(CHECK / "tmp")}


def create(part: Path) -> None:
    """Create and check a backup. Raises BackupError and OSError."""
    try:
        for folder in (CHECK, CHECK_RUN):
            folder.mkdir(mode=0o700)
        with part.open("wb") as stream:
            run_store(os.environ, "backup", *(["--mirrored-files"] if has_mirrored_files() else []), stdout=stream)
            os.fsync(stream.fileno())
        with part.open("rb") as stream:
            run_store(check_environment(), "check", stdin=stream, stdout=subprocess.DEVNULL)
    except (BackupError, OSError):
        remove_leftovers()
        raise


def back_up(now: float) -> None:
    """Create, check and store a backup, and remove old ones. Raises BackupError and OSError."""
    from ..store.backup import record

    name = f"{os.environ['DEVPI_MIRROR_BACKUP_NAME']}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.tar"
    part = BACKUPS / f".{name}"
    for attempt in range(ATTEMPTS):
        require_space()
        try:
            create(part)
            break
        except BackupError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(ATTEMPT_PAUSE)
    part.rename(BACKUPS / name)
    record(name, scheduled=True)
    remove_leftovers()
    rotate()
    print(f"Created the scheduled backup {name}", flush=True)


def run_due(now: float, every: float) -> float:
    """Create a backup if one is due, and return when the next one is due."""
    schedule = read_schedule()
    if due_at(schedule, every, now) > now:
        return due_at(schedule, every, now)
    try:
        remove_leftovers()
        back_up(now)
    except UnavailableError:
        # The status reports that devpi does not respond.
        return now + UNAVAILABLE_RETRY
    except PermissionError as exc:
        error = (
            f"the container can't write to the folder of the backups ({exc}). Run devpi.mirror.site, which corrects it"
        )
        schedule |= {"attempted": now, "error": error}
    except (BackupError, OSError, ValueError) as exc:
        schedule |= {"attempted": now, "error": str(exc)}
    else:
        schedule = {"last": now, "attempted": now, "error": ""}
    if schedule["error"]:
        print(f"Could not create the scheduled backup: {schedule['error']}", file=sys.stderr, flush=True)
    write_schedule(schedule)
    return due_at(schedule, every, now)


def run(now: float) -> None:
    """Create a backup if one is due and none is being created."""
    every = time_limit("BACKUP_EVERY")
    if not every:
        return
    with suppress(BlockingIOError), locked(LOCK, wait=False):
        DUE.write_text(f"{run_due(now, every):.0f}\n")
