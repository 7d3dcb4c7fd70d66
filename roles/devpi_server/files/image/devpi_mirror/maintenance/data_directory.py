# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in devpi's data directory: mirror indexes, files and their hashes, the size of the database, free disk space."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .. import devpi_api
from ..config import DATA, FILES, MIRROR_TYPES, SERVERDIR

# The path of a file below devpi's files: user, index, and the first 16 digits of its hash.
FILE_PATH = re.compile(r"([^/\s]+/[^/\s]+)/\+f/([0-9a-f]{3})/([0-9a-f]{13})/[^/\s]+")


class StoredFile(NamedTuple):
    """A file: its path below its folder, its bytes, and when it was last used, in seconds since the epoch."""

    path: str
    size: int
    used: float


def mirror_settings() -> dict[str, dict[str, Any]]:
    """Return the settings of the mirror indexes, by ``user/index``. Raises OSError and ValueError."""
    users = devpi_api.send("GET", "/")["result"]
    return {
        f"{user}/{name}": index
        for user, about in users.items()
        for name, index in about.get("indexes", {}).items()
        if index["type"] in MIRROR_TYPES
    }


def mirror_indexes() -> set[str]:
    """Return the mirror indexes, as ``user/index``. Raises OSError and ValueError."""
    return set(mirror_settings())


def list_files(indexes: Iterable[str]) -> Iterator[StoredFile]:
    """Yield the files of these indexes."""
    for index in indexes:
        for folder, _folders, names in os.walk(FILES / index):
            for name in names:
                with suppress(OSError):
                    path = Path(folder, name)
                    status = path.stat()
                    used = max(status.st_atime, status.st_mtime)
                    yield StoredFile(str(path.relative_to(FILES)), status.st_size, used)


def count(files: Iterable[StoredFile]) -> dict[str, int]:
    sizes = [file.size for file in files]
    return {"files": len(sizes), "bytes": sum(sizes)}


def is_intact(name: str, path: Path | None = None) -> bool:
    """Return whether a file has the hash in its path below devpi's files. ``path`` is where it is, if it is not there yet.

    A missing file counts as intact, and one that can't be read as damaged.
    """
    found = FILE_PATH.fullmatch(name)
    try:
        with (path or FILES / name).open("rb") as stream:
            # devpi's path has the hash that the upstream lists, of any of these kinds.
            return not found or any(
                hashlib.file_digest(stream, kind).hexdigest().startswith(found[2] + found[3])
                for kind in ("sha256", "md5", "sha1", "sha512", "blake2b")
                if stream.seek(0) == 0
            )
    except FileNotFoundError:
        return True
    except OSError:
        return False


def database_size() -> int:
    """Return the bytes of devpi's database."""
    return sum(path.stat().st_size for path in SERVERDIR.glob(".sqlite*"))


def disk_space() -> dict[str, int]:
    """Return the bytes of the disk that are ``free``, and the ``total``."""
    status = os.statvfs(DATA)
    return {"free": status.f_bavail * status.f_frsize, "total": status.f_blocks * status.f_frsize}
