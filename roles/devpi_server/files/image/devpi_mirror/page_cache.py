"""The pages of one mirror index: fresh, revalidated with the upstream, one request for all clients.

A page is fresh for some time. Then the upstream is asked whether it has changed. If it does not respond, the stale page is
served. If it answers 404 or 410 twice, some seconds apart, the project is removed: one such answer can be a fault.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import orjson

from . import config, pages
from .compression import compressed
from .flights import Flights
from .page_store import Header, PageStore, StoredPage, tag_of
from .upstream import PASSED_ON, Received, Upstream, UpstreamError

# Seconds between two answers that a project does not exist, after which it is removed.
CONFIRMED_AFTER = 5.0
# Seconds that a client waits for the upstream's page, for one that is not cached and for one that is. pip gives up after 15.
WAIT = 14.0
STALE_WAIT = 10.0
THREADS = 20
# Seconds by which the clock can be set back while pages stay fresh.
CLOCK_TOLERANCE = 60.0
# Bytes of a page from which on no other of these is parsed or rendered at the same time, as each takes ten times its size.
LARGE = 1_000_000
T = TypeVar("T")
# Held while a large page is parsed or rendered, of whichever index.
LOCK = threading.RLock()
# The page of a project is a file with its name. File systems allow 255 bytes.
PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,198}[a-z0-9])?")


class Served(NamedTuple):
    """A page to send to a client, of one index or of several.

    ``tag`` changes with the page, ``serial`` is the upstream's or empty, and ``size`` the bytes of the upstream's pages.
    ``form`` returns JSON compressed with gzip, and ``page`` what it has. Both raise UpstreamError if it can't be read.
    ``fresh_for`` is a number of seconds, and 0 if a change must be visible at once. ``is_usable_stale`` is whether nginx may
    serve it after that while it is revalidated. ``error`` is why the page is stale, and empty if it is not.
    """

    tag: str
    serial: str
    size: int
    form: Callable[[], bytes]
    page: Callable[[], pages.Page]
    fresh_for: int
    is_usable_stale: bool = True
    error: str = ""


class Cached(NamedTuple):
    """A page of the cache. ``form`` and ``listing`` are as in PageStore, and the rest is as in Served."""

    header: Header
    form: Callable[[], bytes]
    listing: Callable[[], pages.Listing]
    fresh_for: float
    is_usable_stale: bool = True
    error: str = ""


class PageCache:
    """The pages of one index, in a folder that belongs to one upstream: a changed URL of the upstream has another one.

    ``index`` is its name, and ``folder`` that of the pages of all indexes.
    """

    def __init__(
        self,
        upstream: Upstream,
        index: str,
        folder: Path,
        freshness: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.upstream = upstream
        self.index = index
        self.store = PageStore(folder / index / hashlib.sha256(upstream.url.encode()).hexdigest()[:16], clock)
        self.freshness = freshness
        self.clock = clock
        self.flights: Flights[Cached] = Flights(THREADS, "pages")
        # Projects that the upstream did not have, and until when it is not asked again.
        self.absent: dict[str, tuple[float, UpstreamError]] = {}
        # Until when cached pages are served without waiting for the upstream, as it did not respond, and why.
        self.unavailable = (0.0, "")
        # Projects with a page that the upstream denied once, and when.
        self.denied: dict[str, float] = {}

    def get(self, project: str, *, reload: bool = False) -> Served:
        """Return the page of a project by its normalized name. Raises UpstreamError."""
        cached = self.current(project, self.open(project), reload=reload)
        header = cached.header
        form = partial(self.read, cached.form, project)
        return Served(
            tag=header.tag,
            serial=header.serial,
            size=header.size,
            form=form,
            page=lambda: page_of(form()),
            fresh_for=max(int(cached.fresh_for), 1),
            is_usable_stale=cached.is_usable_stale,
            error=cached.error,
        )

    def listing(self, project: str) -> pages.Listing:
        """Return the listing of the page of a project. Raises UpstreamError."""
        return self.read(self.current(project, self.open(project)).listing, project)

    def open(self, project: str) -> StoredPage | None:
        """Return the stored page of a project, however old it is. Raises UpstreamError if the name is not normalized."""
        if not PROJECT.fullmatch(project):
            raise UpstreamError(f"{project!r} is not the name of a project", 404)
        return self.store.get(project)

    def current(self, project: str, stored: StoredPage | None, *, reload: bool = False) -> Cached:
        """Return the stored page of a project if it is fresh, or else what the upstream sends. Raises UpstreamError."""
        if stored and not reload and project not in self.denied:
            age = self.age(stored)
            if age < self.freshness:
                return cached_page(stored, self.freshness - age)
            until, why = self.unavailable
            if self.is_ahead(until, config.FAILURE_FRESHNESS):
                return cached_page(stored, until - self.clock(), error=why)
        until, error = self.absent.get(project, (0.0, None))
        if error and not reload and self.is_ahead(until, config.ABSENT_FRESHNESS):
            raise error
        try:
            wait = STALE_WAIT if stored else WAIT
            # Another request may have stored the page since this one found none.
            return self.flights.run(project, lambda: self.revalidate(project, stored or self.store.get(project)), wait)
        except TimeoutError:
            late = UpstreamError(f"the upstream's page of {project} has not arrived after {wait:.0f} s", is_outage=True)
            return self.without_upstream(project, stored, late)

    def is_ahead(self, until: float, limit: float) -> bool:
        """Return whether a time is ahead. One that is more than ``limit`` seconds ahead is not: the clock was set back."""
        return 0 < until - self.clock() <= limit

    def age(self, stored: StoredPage) -> float:
        """Return the seconds since the upstream confirmed a page, which are infinite if the clock was wrong at that time."""
        age = self.clock() - stored.confirmed
        return max(age, 0.0) if age >= -CLOCK_TOLERANCE else math.inf

    def without_upstream(self, project: str, stored: StoredPage | None, error: UpstreamError) -> Cached:
        """Return a cached page that the upstream does not confirm. Raises the error if there is none.

        If the upstream denies the page, that is also raised for one that is too old to be served without waiting.
        """
        is_denied = error.status in PASSED_ON
        if not stored or (is_denied and self.age(stored) >= self.freshness + config.max_stale()):
            raise error
        # A page that is denied or that can't be parsed says nothing about those of other projects.
        if error.is_outage:
            self.unavailable = (self.clock() + config.FAILURE_FRESHNESS, str(error))
        return cached_page(stored, config.FAILURE_FRESHNESS, is_usable_stale=not is_denied, error=str(error))

    def find(self, project: str, path: str, max_age: float | None = None) -> pages.File | None:
        """Return what the page of a project lists of the file that has a path below the index. Raises UpstreamError.

        A page that is no longer fresh will do if it lists the file, as the path has the file's hash. ``max_age`` is how old it
        may be, in seconds: 0 for a page that the upstream confirms now, and by default how long a stale page is served.
        """
        stored = self.open(project)
        age = self.age(stored) if stored else math.inf
        if stored and age < (config.max_stale() if max_age is None else max_age):
            try:
                found = self.read(stored.listing, project).find(path)
            except UpstreamError:
                # It is downloaded again.
                stored = None
            else:
                if found or age < self.freshness:
                    return found
        return self.read(self.current(project, stored, reload=max_age == 0).listing, project).find(path)

    def read(self, part: Callable[[], T], project: str) -> T:
        """Return a part of a stored page. Raises UpstreamError if it can't be read: the page is then downloaded again."""
        try:
            return part()
        except (OSError, ValueError) as exc:
            self.purge(project)
            raise UpstreamError(f"{exc}, reading the page of {project}") from exc

    def revalidate(self, project: str, stored: StoredPage | None) -> Cached:
        """Ask the upstream for a page, and store the answer. Raises UpstreamError."""
        with tempfile.SpooledTemporaryFile(LARGE, dir=str(config.TEMPORARY)) as body:
            return self.request(project, stored, cast(BinaryIO, body))

    def request(self, project: str, stored: StoredPage | None, body: BinaryIO) -> Cached:
        """Request a page, whose response is written to ``body``, and store it. Raises UpstreamError."""
        headers = {"Accept": pages.ACCEPT}
        if stored and stored.header.etag:
            headers["If-None-Match"] = stored.header.etag
        try:
            response = self.upstream.receive(f"{self.upstream.url}{project}/", headers, body)
            if response.status == 304 and stored:
                self.forget_errors(project)
                stored.confirm(self.clock())
                return cached_page(stored, self.freshness)
            if response.status != 200:
                raise UpstreamError(f"the upstream answers {response.status} to a request for the page of {project}")
            # What is no page must not replace a stored one.
            form, listing = self.convert(project, response)
        except UpstreamError as exc:
            if exc.status in (404, 410):
                return self.confirm_removal(project, stored, exc)
            return self.without_upstream(project, stored, exc)
        except Exception as exc:
            # A response that this code does not expect must not make the stored page unavailable.
            reason = str(exc) if isinstance(exc, (pages.PageError, OSError)) else f"{type(exc).__name__}: {exc}"
            return self.without_upstream(project, stored, UpstreamError(f"{reason}, getting the page of {project}"))
        header = header_of(response, form, listing)
        self.forget_errors(project)
        written = self.store.write(project, header, form, listing)
        if written:
            return cached_page(written, self.freshness)
        # If the disk has no room, an older page remains. The upstream has not confirmed that one.
        return Cached(header, lambda: form, lambda: pages.Listing(listing), self.freshness)

    def convert(self, project: str, response: Received) -> tuple[bytes, bytes]:
        """Return the form and the listing of the page in a response. Raises PageError."""
        with one_if_large(response.size):
            response.body.seek(0)
            page = pages.parse(response.body.read(), response.headers.get("Content-Type", ""), response.url)
            page.setdefault("name", project)
            listing = pages.localize(page, self.index)
            return compressed(pages.render_json(page)), listing

    def forget_errors(self, project: str) -> None:
        self.absent.pop(project, None)
        self.denied.pop(project, None)

    def confirm_removal(self, project: str, stored: StoredPage | None, error: UpstreamError) -> Cached:
        """Return a page whose project the upstream denies, until it has done so twice. Raises UpstreamError after that."""
        now = self.clock()
        first = self.denied.setdefault(project, now) if stored else 0.0
        if stored and abs(now - first) < CONFIRMED_AFTER:
            return cached_page(stored, config.ABSENT_FRESHNESS, is_usable_stale=False, error=str(error))
        self.denied.pop(project, None)
        if stored:
            self.store.note_removal(project)
        self.absent = {name: item for name, item in self.absent.items() if item[0] > now}
        self.absent[project] = (now + config.ABSENT_FRESHNESS, error)
        raise error

    def purge(self, project: str) -> None:
        """Have the next request for a project wait for the upstream."""
        self.forget_errors(project)
        self.store.purge(project)


def cached_page(stored: StoredPage, fresh_for: float, *, is_usable_stale: bool = True, error: str = "") -> Cached:
    return Cached(stored.header, stored.form, stored.listing, fresh_for, is_usable_stale, error)


def page_of(form: bytes) -> pages.Page:
    """Return the page with links to this mirror."""
    return dict(orjson.loads(gzip.decompress(form)))


def one_if_large(size: int) -> AbstractContextManager[Any]:
    return LOCK if size > LARGE else nullcontext()


def header_of(response: Received, form: bytes, listing: bytes) -> Header:
    """Return what is stored with a page. Values that can't be sent in a header again are left out."""
    etag, serial = (response.headers.get(name, "") for name in ("ETag", "X-PyPI-Last-Serial"))
    return Header(
        etag=etag if re.fullmatch("[ -~]{1,1000}", etag) else "",
        serial=serial if re.fullmatch("[0-9]{1,20}", serial) else "",
        tag=tag_of(form),
        size=response.size,
        length=len(form),
        listing_crc=zlib.crc32(listing),
    )
