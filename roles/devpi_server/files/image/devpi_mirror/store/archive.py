# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack a backup from standard input."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from devpi_server import __version__

from ..compat import MAJOR
from . import database
from .backup import FORMAT
from .errors import DataError

Manifest = dict[str, Any]


def safe_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, private to this user. Raises DataError for one that leads out of its folder."""
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise DataError(f"it contains {member.name}, which is not part of a backup")
        member.mode &= 0o700
        yield member


def unpack(target: Path) -> Manifest:
    """Unpack a backup from standard input, and return its manifest. Raises DataError."""
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            archive.extractall(target, members=safe_members(archive))
        manifest: Manifest = json.loads((target / "manifest.json").read_text())
        is_supported = manifest["format"] == FORMAT and manifest["devpi_server"].split(".")[0] == str(MAJOR)
        found = database.describe(target / "server") if is_supported else {}
    except (DataError, tarfile.TarError, EOFError, OSError, ValueError, KeyError) as exc:
        raise DataError(f"not a mirror backup, or the archive is truncated ({exc})") from exc
    if not is_supported:
        raise DataError(
            f"the backup is of devpi-server {manifest['devpi_server']} (format {manifest['format']}), and the mirror runs "
            f"{__version__}: set devpi_server_release to the release of the backup, restore it, and then upgrade"
        )
    expected = {name: manifest[name] for name in found}
    if found != expected:
        raise DataError(f"the database in the backup does not match its manifest: it has {found}, not {expected}")
    return manifest
