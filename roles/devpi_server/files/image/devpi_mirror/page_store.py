"""The pages of one mirror index on the disk, in the form in which they are served."""

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

from . import config, pages


class Header(NamedTuple):
    """What is stored with a page: the upstream's ``ETag`` and serial, and a tag that changes with the page.

    ``size`` is the bytes of the upstream's page, ``length`` those of the form in which it is served, and ``listing_crc`` is
    the CRC-32 of the listing.
    """

    etag: str
    serial: str
    tag: str
    size: int
    length: int
    listing_crc: int


class Removed(NamedTuple):
    """A project that the upstream removed, and when (seconds since the epoch)."""

    name: str
    at: float


class StoredPage:
    """A page in a file, which stays what it is when the file is replaced or removed.

    Raises OSError, ValueError or TypeError if it can't be read.
    """

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

    def listing(self) -> pages.Listing:
        """Return the listing of the page. Raises OSError, or ValueError if it is damaged."""
        start = self.start + self.header.length
        # Not in memory, as each of many clients may be after a file of a large page.
        content = mmap.mmap(self.file, 0, access=mmap.ACCESS_READ)
        with memoryview(content) as view:
            if zlib.crc32(view[start:]) != self.header.listing_crc:
                raise ValueError("the stored page is damaged")
        return pages.Listing(content, start)

    @property
    def confirmed(self) -> float:
        """When the upstream last confirmed the page (seconds since the epoch)."""
        return os.fstat(self.file).st_mtime

    def confirm(self, now: float) -> None:
        """Note that the upstream has just confirmed the page. One that can't be changed is revalidated again."""
        with suppress(OSError):
            os.utime(self.file, (now, now))


class PageStore:
    """One file for each page: a header, which is a line of JSON, a form and a listing.

    The form is what most clients get: JSON with links to this mirror, compressed with gzip. The listing, see
    ``pages.localize``, has the upstream's links. The upstream confirmed the page when the file was last changed.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock
        self.removals = threading.Lock()

    def path(self, project: str) -> Path:
        return self.folder / f"{project}.page"

    def get(self, project: str) -> StoredPage | None:
        """Return a page. What can't be read is as if it were not there."""
        try:
            return StoredPage(self.path(project))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, project: str, header: Header, form: bytes, listing: bytes) -> StoredPage | None:
        """Store a page that the upstream has just sent, and return it. Returns None if there is no room for it."""
        if not write(self.path(project), json.dumps(header._asdict()).encode() + b"\n", form, listing):
            return None
        stored = self.get(project)
        if stored:
            stored.confirm(self.clock())
        return stored

    def purge(self, project: str) -> None:
        self.path(project).unlink(missing_ok=True)

    def note_removal(self, project: str) -> None:
        """Note that the upstream has removed a project, whose page is purged."""
        self.purge(project)
        with self.removals:
            listed = [*removed(self.folder, self.clock()), Removed(project, self.clock())][-1000:]
            write(self.folder / "removed.json", json.dumps(listed).encode())


def tag_of(form: bytes) -> str:
    return hashlib.sha256(form).hexdigest()[:24]


def removed(folder: Path, now: float) -> list[Removed]:
    """Return which projects of a folder the upstream has removed lately."""
    try:
        found = [Removed(*item) for item in json.loads((folder / "removed.json").read_text())]
    except (OSError, ValueError, TypeError):
        return []
    return [item for item in found if now - item.at < config.REMOVED_LISTED]


def write(path: Path, *parts: bytes) -> bool:
    """Write a file, whole or not at all. Returns False if there is no room for it."""
    fresh = path.with_name(f".{path.name}.{threading.get_ident()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with fresh.open("wb") as stream:
            stream.writelines(parts)
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        return False
    return True
