"""The pages of one mirror index: on the disk, revalidated with the upstream, one request for all clients.

A page is fresh for some time. Then the upstream is asked whether it has changed. If it does not respond, the stale page is
served. If it answers 404 or 410 twice, some seconds apart, the project is removed: one such answer can be a fault.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import orjson

from . import config, pages
from .flights import Flights
from .upstream import Received, Upstream, UpstreamError, expanded

# Seconds between two answers that a project does not exist, after which it is removed.
CONFIRMED_AFTER = 5.0
# Seconds that a client waits for the upstream's page, for one that is not cached and for one that is. pip gives up after 15.
WAIT = 14.0
STALE_WAIT = 10.0
THREADS = 20
# Bytes of a page from which on no other of these is parsed or rendered at the same time, as each takes ten times its size.
LARGE = 1_000_000
# Bytes of the pages whose files are remembered, in about as much memory.
RECENT = 8_000_000
# What requests for a file and for its core metadata need of what its page lists.
REMEMBERED = ("filename", "url", "hashes", "size", "core-metadata", "dist-info-metadata")
# Bytes of a page that are read at a time.
PIECE = 65_536
PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


class Header(NamedTuple):
    """What is stored with a page.

    The upstream's ``ETag``, serial, content type, encoding and URL, the bytes of the page, and a tag that changes with it.
    """

    etag: str
    serial: str
    size: int
    tag: str
    content_type: str
    encoding: str
    url: str


class Served(NamedTuple):
    """A page for a client, which ``load`` returns or raises UpstreamError for.

    ``fresh_for`` is a number of seconds, ``error`` is why the page is stale, and empty if it is not.
    """

    header: Header
    load: Callable[[], pages.Page]
    fresh_for: float
    error: str = ""


class Files(NamedTuple):
    """The files of a page by their paths, with the tag and the bytes of the page."""

    tag: str
    size: int
    by_path: dict[str, bytes]


class Removed(NamedTuple):
    """A project that the upstream removed, and when (seconds since the epoch)."""

    name: str
    at: float


class PageCache:
    """The pages of one index, in a folder that belongs to one upstream: a changed URL of the upstream has another one.

    A page is one file: its header as a line of JSON, and the response as it was received. The time of its last change is when
    the upstream last confirmed the page.
    """

    def __init__(
        self,
        upstream: Upstream,
        folder: Path,
        freshness: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.upstream = upstream
        self.folder = folder / hashlib.sha256(upstream.url.encode()).hexdigest()[:16]
        self.freshness = freshness
        self.clock = clock
        self.flights: Flights[Served] = Flights(THREADS, "pages")
        self.large = threading.RLock()
        self.lock = threading.Lock()
        self.recent: OrderedDict[str, Files] = OrderedDict()
        # Projects that the upstream did not have, and until when it is not asked again.
        self.absent: dict[str, tuple[float, UpstreamError]] = {}
        # Until when cached pages are served without waiting for the upstream, as it did not respond, and why.
        self.unavailable = (0.0, "")
        # Projects with a page that the upstream denied once, and when.
        self.denied: dict[str, float] = {}

    def get(self, project: str, *, reload: bool = False) -> Served:
        """Return the page of a project by its normalized name. Raises UpstreamError."""
        if not PROJECT.fullmatch(project):
            raise UpstreamError(f"{project!r} is not the name of a project", 404)
        stored = self.read_header(project)
        if stored and not reload and project not in self.denied:
            age = max(self.clock() - self.checked(project), 0.0)
            if age < self.freshness:
                return self.served(project, stored, self.freshness - age)
            until, why = self.unavailable
            if self.clock() < until:
                return self.served(project, stored, until - self.clock(), why)
        until, error = self.absent.get(project, (0.0, None))
        if error and not reload and self.clock() < until:
            raise error
        try:
            wait = STALE_WAIT if stored else WAIT
            return self.flights.run(project, lambda: self.revalidate(project), wait)
        except TimeoutError:
            late = UpstreamError(f"the upstream's page of {project} has not arrived after {wait:.0f} s", is_outage=True)
            return self.without_upstream(project, stored, late)

    def without_upstream(self, project: str, stored: Header | None, error: UpstreamError) -> Served:
        """Return a cached page that the upstream does not confirm. Raises the error if there is none."""
        if not stored:
            raise error
        # A page that is denied or that can't be parsed says nothing about those of other projects.
        if error.is_outage:
            self.unavailable = (self.clock() + config.FAILURE_FRESHNESS, str(error))
        return self.served(project, stored, config.FAILURE_FRESHNESS, str(error))

    def find(self, project: str, path: str) -> pages.File | None:
        """Return what the page of a project lists of the file that has a path below the index. Raises UpstreamError.

        A page that is no longer fresh will do if it lists the file, as the path has the file's hash.
        """
        stored = self.read_header(project)
        if stored and self.clock() - self.checked(project) < config.max_stale():
            found = self.files_of(project, self.served(project, stored, 0)).get(path)
            if found:
                return dict(orjson.loads(found))
        found = self.files_of(project, self.get(project)).get(path)
        return dict(orjson.loads(found)) if found else None

    def files_of(self, project: str, served: Served) -> dict[str, bytes]:
        """Return the files of a page by their paths, as JSON of some of their keys. Raises UpstreamError.

        A resolver requests the metadata of hundreds of releases of one project, so a few pages are remembered.
        """
        with self.lock:
            found = self.recent.get(project)
            if found is None or found.tag != served.header.tag:
                files = {pages.path_of(file): remembered(file) for file in served.load()["files"]}
                found = self.recent[project] = Files(served.header.tag, served.header.size, files)
            self.recent.move_to_end(project)
            while len(self.recent) > 1 and sum(page.size for page in self.recent.values()) > RECENT:
                self.recent.popitem(last=False)
            return found.by_path

    def served(self, project: str, stored: Header, fresh_for: float, error: str = "") -> Served:
        return Served(stored, lambda: self.read_page(project), fresh_for, error)

    def revalidate(self, project: str) -> Served:
        """Ask the upstream for a page, and store the answer. Raises UpstreamError."""
        with tempfile.SpooledTemporaryFile(LARGE, dir=str(config.TEMPORARY)) as body:
            return self.request(project, cast(BinaryIO, body))

    def request(self, project: str, body: BinaryIO) -> Served:
        """Request a page, whose response is written to ``body``, and store it. Raises UpstreamError."""
        stored = self.read_header(project)
        headers = {"Accept": pages.ACCEPT}
        if stored and stored.etag:
            headers["If-None-Match"] = stored.etag
        try:
            response = self.upstream.receive(f"{self.upstream.url}{project}/", headers, body)
            if response.status == 304 and stored:
                self.confirm(project)
                return self.served(project, stored, self.freshness)
            if response.status != 200:
                raise UpstreamError(f"the upstream answers {response.status} to a request for the page of {project}")
            header = header_of(response)
            if not stored and header.size > LARGE and self.store(project, header, response.body):
                # It is parsed when it is rendered, so that waiting clients do not each have a large page in memory.
                return self.served(project, header, self.freshness)
            response.body.seek(0)
            # What is no page must not replace a stored one.
            page = self.parse(project, header, response.body)
        except (UpstreamError, pages.PageError, OSError) as exc:
            error = exc if isinstance(exc, UpstreamError) else UpstreamError(f"{exc}, getting the page of {project}")
            if error.status in (404, 410):
                return self.confirm_removal(project, stored, error)
            return self.without_upstream(project, stored, error)
        is_stored = self.store(project, header, response.body)
        if is_stored and header.size > LARGE:
            return self.served(project, header, self.freshness)
        return Served(header, lambda: page, self.freshness)

    def store(self, project: str, header: Header, body: BinaryIO) -> bool:
        """Store a page that the upstream has just sent. Returns False if there is no room for it."""
        body.seek(0)
        is_stored = write(self.path(project), json.dumps(header._asdict()).encode() + b"\n", body)
        self.confirm(project)
        return is_stored

    def confirm(self, project: str) -> None:
        """Note that the upstream has just confirmed a page."""
        self.absent.pop(project, None)
        self.denied.pop(project, None)
        now = self.clock()
        try:
            os.utime(self.path(project), (now, now))
        except FileNotFoundError:
            # There was no room for it.
            return

    def confirm_removal(self, project: str, stored: Header | None, error: UpstreamError) -> Served:
        """Serve a page whose project the upstream denies, until it has done so twice. Raises UpstreamError after that."""
        now = self.clock()
        first = self.denied.setdefault(project, now) if stored else 0.0
        if stored and now - first < CONFIRMED_AFTER:
            return self.served(project, stored, config.ABSENT_FRESHNESS, str(error))
        self.denied.pop(project, None)
        if stored:
            self.path(project).unlink(missing_ok=True)
            self.note_removal(project)
        self.absent = {name: item for name, item in self.absent.items() if item[0] > now}
        self.absent[project] = (now + config.ABSENT_FRESHNESS, error)
        raise error

    def path(self, project: str) -> Path:
        return self.folder / f"{project}.page"

    def checked(self, project: str) -> float:
        """Return when the upstream last confirmed a page (seconds since the epoch)."""
        try:
            return self.path(project).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def read_header(self, project: str) -> Header | None:
        """Return what is stored with a page. What can't be read is as if it were not there."""
        try:
            with self.path(project).open("rb") as stream:
                return Header(**json.loads(stream.readline()))
        except (OSError, ValueError, TypeError):
            return None

    def read_page(self, project: str) -> pages.Page:
        """Return a page. Raises UpstreamError if it was removed meanwhile, or is damaged: it is then downloaded again."""
        try:
            with self.path(project).open("rb") as stream:
                header = Header(**json.loads(stream.readline()))
                return self.parse(project, header, stream)
        except (OSError, ValueError, TypeError) as exc:
            self.purge(project)
            raise UpstreamError(f"{exc}, reading the page of {project}") from exc

    def one_if_large(self, size: int) -> AbstractContextManager[Any]:
        return self.large if size > LARGE else nullcontext()

    def parse(self, project: str, header: Header, body: BinaryIO) -> pages.Page:
        """Return the page in a response. Raises ValueError, of which PageError is one."""
        with self.one_if_large(header.size):
            content = b"".join(expanded(iter(partial(body.read, PIECE), b""), header.encoding, config.PAGE_LIMIT))
            page = pages.parse(content, header.content_type, header.url)
        page.setdefault("name", project)
        return page

    def removed(self) -> list[Removed]:
        """Return which projects the upstream has removed within a day."""
        try:
            found = [Removed(*item) for item in json.loads((self.folder / "removed.json").read_text())]
        except (OSError, ValueError, TypeError):
            return []
        return [item for item in found if self.clock() - item.at < config.REMOVED_LISTED]

    def note_removal(self, project: str) -> None:
        listed = [*self.removed(), Removed(project, self.clock())][-1000:]
        write(self.folder / "removed.json", json.dumps(listed).encode())

    def purge(self, project: str) -> None:
        """Have the next request for a project wait for the upstream."""
        self.absent.pop(project, None)
        self.denied.pop(project, None)
        self.path(project).unlink(missing_ok=True)


def remembered(file: pages.File) -> bytes:
    content = orjson.dumps({key: file[key] for key in REMEMBERED if key in file})
    # What orjson returns occupies several times its length.
    return bytes(memoryview(content))


def header_of(response: Received) -> Header:
    serial = response.headers.get("X-PyPI-Last-Serial", "")
    return Header(
        response.headers.get("ETag", ""),
        serial if serial.isdecimal() else "",
        response.size,
        response.digest[:24],
        response.headers.get("Content-Type", ""),
        response.encoding,
        response.url,
    )


def write(path: Path, start: bytes, rest: BinaryIO | None = None) -> bool:
    """Write a file, whole or not at all. Returns False if there is no room for it."""
    fresh = path.with_name(f".{path.name}.{threading.get_ident()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with fresh.open("wb") as stream:
            stream.write(start)
            if rest:
                shutil.copyfileobj(rest, stream)
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        return False
    return True
