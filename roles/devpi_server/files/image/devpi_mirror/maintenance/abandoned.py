# SPDX-License-Identifier: GPL-3.0-or-later
"""Recover or remove what interrupted downloads, uploads and compactions have left."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from ..config import DATA, FILES, TEMPORARY
from .data_directory import FILE_PATH, is_intact

# Seconds after its last change that a temporary file is abandoned: devpi itself gives up far earlier.
ABANDONED = 60
# The same of a download. It may wait for an upstream that does not respond, several times, and for devpi's database.
DOWNLOAD_ABANDONED = 600
# How devpi names a file until the transaction that stores it is complete.
UNCOMMITTED = re.compile(r"(.+?)(-[0-9a-f]{8,64})?-tmp")


def recover_or_discard(path: Path) -> None:
    """Move a complete file that devpi has not renamed to its path, and remove any other.

    devpi does that itself after a crash, but only for its last transaction.
    """
    found = UNCOMMITTED.fullmatch(path.name)
    target = path.with_name(found[1] if found else path.name)
    name = str(target.relative_to(FILES))
    if FILE_PATH.fullmatch(name) and not target.exists() and is_intact(name, path):
        path.replace(target)
    else:
        path.unlink()


def remove_abandoned() -> None:
    """Recover or remove abandoned files."""
    shutil.rmtree(DATA / "compact", ignore_errors=True)
    now = time.time()
    for pattern, folder, handle, age in (
        ("*-tmp", FILES, recover_or_discard, ABANDONED),
        ("*", TEMPORARY, Path.unlink, DOWNLOAD_ABANDONED),
        ("*", DATA / "nginx" / "tmp", Path.unlink, ABANDONED),
    ):
        for path in folder.rglob(pattern):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < now - age:
                    handle(path)
