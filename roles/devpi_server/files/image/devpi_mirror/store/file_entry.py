# SPDX-License-Identifier: GPL-3.0-or-later
"""Store a downloaded file in devpi, with an entry in its database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from devpi_common.metadata import splitbasename
from devpi_server.filestore import Digests  # type: ignore[attr-defined, unused-ignore]

from .. import compat, config, pages
from ..upstream import without_secrets


def store_file(
    xom: Any, index: str, path: str, project: str, file: pages.File, downloaded: Path, digests: Mapping[str, str]
) -> None:
    """Store a file and its entry in one short transaction. The file is linked, not copied.

    An existing entry is updated, as its file may have been evicted. On a replica, the file has no entry of its own.
    """
    if xom.is_replica():
        stored = config.FILES / index / path
        stored.parent.mkdir(parents=True, exist_ok=True)
        downloaded.replace(stored)
        return
    with downloaded.open("rb") as stream:
        # devpi links the file with this attribute.
        stream.devpi_srcpath = downloaded  # type: ignore[attr-defined]
        with xom.keyfs.write_transaction():
            entry = xom.filestore.get_file_entry_from_key(compat.file_key(xom, f"{index}/{path}"))
            # Clients that may download the file can read its entry.
            entry.url = without_secrets(httpx.URL(file["url"]))
            entry.project = project
            entry.version = version_of(file["filename"])
            compat.set_content(entry, stream, Digests(digests), downloaded.stat().st_size)


def version_of(filename: str) -> str | None:
    """Return the version in a file name, or None if devpi finds none."""
    try:
        return str(splitbasename(filename)[1])  # type: ignore[no-untyped-call]
    except ValueError:
        return None
