# SPDX-License-Identifier: GPL-3.0-or-later
"""Store the pages of a mirror index on the disk, in the form in which they are served."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
import time
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import config
from .listing import Listing


class Header(NamedTuple):
    """What is stored with a page: the upstream's ``ETag`` and serial, and a tag that changes with the page.

    ``size`` is the bytes of the upstream's page, ``length`` the bytes of the form in which it is served, and ``listing_crc``
    the CRC-32 of the listing.
    """

    etag: str
    serial: str
    tag: str
    size: int
    length: int
    listing_crc: int


class Removed(NamedTuple):
    """A project that the upstream has removed, and when, in seconds since the epoch."""

    name: str
    at: float


class StoredPage:
    """A page in an open file, which stays readable when another file replaces it. Raises OSError, ValueError or TypeError."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)
        with open(self.file, "rb", closefd=False) as stream:
            line = stream.readline()
        self.start = len(line)
        self.header = Header(**json.loads(line))

    def form(self) -> bytes:
        """Return the form of the page. Raises OSError, or ValueError if it is damaged."""
        form = os.pread(self.file, self.header.length, self.start)
        if tag_of(form) != self.header.tag:
            raise ValueError("the stored page is damaged")
        return form

    def listing(self) -> Listing:
        """Return the listing of the page. Raises OSError, or ValueError if it is damaged."""
        start = self.start + self.header.length
        # Mapped, not read, as each of many clients can request a file of a large page.
        content = mmap.mmap(self.file, 0, access=mmap.ACCESS_READ)
        with memoryview(content) as view:
            if zlib.crc32(view[start:]) != self.header.listing_crc:
                raise ValueError("the stored page is damaged")
        return Listing(content, start)

    @property
    def confirmed(self) -> float:
        """When the upstream last confirmed the page, in seconds since the epoch."""
        return os.fstat(self.file).st_mtime

    def confirm(self, now: float) -> None:
        """Record that the upstream has just confirmed the page. If that fails, the page is revalidated again."""
        with suppress(OSError):
            os.utime(self.file, (now, now))


def page_folder(folder: Path, index: str, url: str) -> Path:
    """Return the folder of the pages that an index has from an upstream. ``folder`` has the pages of all indexes."""
    return folder / index / hashlib.sha256(f"{url.rstrip('/')}/".encode()).hexdigest()[:16]


class PageStore:
    """One file for each page: a header, which is a line of JSON, a form and a listing.

    The form is what most clients get: JSON with links to this mirror, compressed with gzip. The listing has the upstream's
    links, see listing.py. The file's modification time is when the upstream last confirmed the page.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self.removals = threading.Lock()

    def path(self, project: str) -> Path:
        return self.folder / f"{project}.page"

    def get(self, project: str) -> StoredPage | None:
        """Return a page, or None if it does not exist or can't be read."""
        try:
            return StoredPage(self.path(project))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, project: str, header: Header, form: bytes, listing: bytes) -> StoredPage | None:
        """Store a page that the upstream has just sent, and return it, or None if the disk is full."""
        if not write(self.path(project), json.dumps(header._asdict()).encode() + b"\n", form, listing):
            return None
        stored = self.get(project)
        if stored:
            stored.confirm(self.clock())
        return stored

    def purge(self, project: str) -> None:
        self.path(project).unlink(missing_ok=True)

    def note_removal(self, project: str) -> None:
        """Record that the upstream has removed a project, and remove its page."""
        self.purge(project)
        with self.removals:
            listed = [*removed(self.folder, self.clock()), Removed(project, self.clock())][-1000:]
            write(self.folder / "removed.json", json.dumps(listed).encode())


def tag_of(form: bytes) -> str:
    return hashlib.sha256(form).hexdigest()[:24]


def removed(folder: Path, now: float) -> list[Removed]:
    """Return the projects of a folder that the upstream has removed lately. ``now`` is in seconds since the epoch."""
    try:
        found = [Removed(*item) for item in json.loads((folder / "removed.json").read_text())]
    except (OSError, ValueError, TypeError):
        return []
    return [item for item in found if now - item.at < config.REMOVED_LISTED]


def write(path: Path, *parts: bytes) -> bool:
    """Write a file atomically. Returns False if that fails, for example because the disk is full."""
    fresh = path.with_name(f".{path.name}.{threading.get_ident()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with fresh.open("wb") as stream:
            stream.writelines(parts)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        return False
    return True
