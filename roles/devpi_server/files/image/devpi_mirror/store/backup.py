# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a backup to standard output, as a tar archive, while devpi serves.

The archive has ``manifest.json`` first, then a copy of the database, the secret and the root password, and the files of all
indexes that are not mirrors; of mirrors too, if requested. sqlite can copy a database that is in use, and devpi never changes a
stored file.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from devpi_server import __version__

from ..compat import DATABASE
from ..config import DATA, DATA_LOCK, SERVERDIR
from ..locks import locked
from ..maintenance import data_directory
from . import database

FORMAT = 1
# What makes login tokens and passwords of a backup valid after a restore.
SECRETS = ("secret", "root-password")
# Also in a backup: the settings of the mirror index that the entrypoint has applied.
EXTRA_FILES = (*SECRETS, "settings-applied")


def list_files(server: Path, excluded: set[str]) -> Iterator[Path]:
    """Yield the files of all indexes except the excluded ones."""
    for index in sorted((server / "+files").glob("*/*")):
        if "/".join(index.parts[-2:]) not in excluded:
            yield from (path for path in sorted(index.rglob("*")) if path.is_file() and not path.name.endswith("-tmp"))


def back_up(has_mirrored_files: bool) -> None:
    """Write a backup to standard output, after another one or a compaction. Raises DataError, OSError and ValueError."""
    with locked(DATA_LOCK):
        write(has_mirrored_files)


def write(has_mirrored_files: bool) -> None:
    """Write a backup to standard output. Raises DataError, OSError and ValueError."""
    # Not in the folder of temporary files, in which the maintenance removes old files.
    folder = DATA / "backup"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "server").mkdir(parents=True)
    # Before the database: devpi may repeat events to its plugins, but must not skip those that .event_serial is ahead of.
    for name in (".nodeinfo", ".serverversion", ".event_serial"):
        if (SERVERDIR / name).exists():
            shutil.copy2(SERVERDIR / name, folder / "server" / name)
    for name in EXTRA_FILES:
        if (DATA / name).exists():
            shutil.copy2(DATA / name, folder / name)
    database.copy(SERVERDIR, folder / "server" / DATABASE)
    mirrors = data_directory.mirror_indexes()
    manifest = {
        **database.describe(folder / "server"),
        "format": FORMAT,
        "devpi_server": __version__,
        "made": time.time(),
        "mirrors": sorted(mirrors),
        "mirrored_files": has_mirrored_files,
    }
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        content = json.dumps(manifest).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size, member.mode, member.mtime = len(content), 0o600, int(manifest["made"])
        archive.addfile(member, io.BytesIO(content))
        archive.add(folder, arcname=".")
        for path in list_files(SERVERDIR, set() if has_mirrored_files else mirrors):
            # It was removed meanwhile. The check of the backup finds out whether the copied database needs it.
            with suppress(FileNotFoundError):
                archive.add(path, arcname=str(path.relative_to(DATA)))
    shutil.rmtree(folder)


def record(name: str, scheduled: bool = False) -> None:
    """Record the name of a backup that was checked, for the module devpi_info."""
    staged = DATA / "last-backup.json.new"
    staged.write_text(json.dumps({"at": time.time(), "file": name, "scheduled": scheduled}))
    staged.rename(DATA / "last-backup.json")
