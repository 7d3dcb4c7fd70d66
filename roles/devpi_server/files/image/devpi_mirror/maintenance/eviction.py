# SPDX-License-Identifier: GPL-3.0-or-later
"""Evict the least recently used mirrored files and cached pages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from ..config import FILES, PAGES
from . import data_directory
from .data_directory import StoredFile
from .limits import byte_limit, time_limit

# Limits of the pages: seconds since the last request, and bytes of all pages.
PAGES_AGE = 365 * 86_400
PAGES_SIZE = 1_000_000_000


def select_evicted(files: Iterable[StoredFile], max_size: float, max_age: float, now: float) -> list[StoredFile]:
    """Return the files to evict: those unused for ``max_age`` seconds, and the least recently used above ``max_size`` bytes.

    A limit of 0 means unlimited. Above ``max_size``, a tenth of it is freed too, so that not every new file evicts another one.
    """
    by_use = sorted(files, key=lambda file: file.used)
    evicted = [file for file in by_use if max_age and now - file.used > max_age]
    remaining = by_use[len(evicted) :]
    size = sum(file.size for file in remaining)
    if max_size and size > max_size:
        for file in remaining:
            if size <= max_size * 0.9:
                break
            evicted.append(file)
            size -= file.size
    return evicted


def evict_files() -> None:
    """Evict mirrored files above the limits of the cache."""
    max_size, max_age = byte_limit("CACHE_MAX_SIZE"), time_limit("CACHE_MAX_AGE")
    if not max_size and not max_age:
        return
    files = data_directory.list_files(data_directory.mirror_indexes())
    evicted = select_evicted(files, max_size, max_age, time.time())
    for file in evicted:
        # A client that is downloading it receives it completely.
        (FILES / file.path).unlink(missing_ok=True)
    if evicted:
        total = data_directory.count(evicted)
        print(f"Evicted the {total['files']} least recently used files ({total['bytes']:,} bytes)", flush=True)


def evict_pages() -> None:
    """Evict pages above their limits. A page is confirmed by the upstream when it is requested."""
    pages = []
    for path in PAGES.rglob("*.page"):
        with suppress(OSError):
            status = path.stat()
            pages.append(StoredFile(str(path.relative_to(PAGES)), status.st_size, status.st_mtime))
    for page in select_evicted(pages, PAGES_SIZE, PAGES_AGE, time.time()):
        (PAGES / page.path).unlink(missing_ok=True)
