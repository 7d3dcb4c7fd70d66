# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache the pages of a mirror index, and revalidate them with one request to the upstream for all clients.

A page is fresh for some time, and then revalidated. If the upstream does not respond, the stale page is served. If it responds
with 404 or 410 twice, some seconds apart, the project is removed: a single such response can be an error.
"""

from __future__ import annotations

import gzip
import math
import re
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import orjson

from . import config, pages
from .compression import compressed
from .listing import Listing, localize
from .page_store import Header, PageStore, StoredPage, page_folder, tag_of
from .parsing import ACCEPT, parse
from .rendering import render_json
from .single_flight import SingleFlight
from .upstream import PASSED_ON, Received, Upstream, UpstreamError

# Seconds between the two responses that confirm the removal of a project.
CONFIRMED_AFTER = 5.0
THREADS = 20
# Seconds by which the clock can be set back while pages stay fresh.
CLOCK_TOLERANCE = 60.0
# Bytes of a large page. One large page is parsed or rendered at a time, as this takes ten times its size of memory.
LARGE = 1_000_000
T = TypeVar("T")
# Held while a large page of any index is parsed or rendered.
LOCK = threading.RLock()
# Names that fit into a file name, of which file systems allow 255 bytes.
PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,198}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Validity:
    """For how many seconds a page is fresh, and whether nginx may then serve it stale while it is revalidated.

    ``error`` is why the page itself is stale, or an empty text.
    """

    fresh_for: float
    is_usable_stale: bool = True
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Served(Validity):
    """A page to send to a client, of one index or merged from several.

    ``tag`` changes with the page, ``serial`` is the upstream's or empty, and ``size`` the bytes of the upstream's pages.
    ``form`` returns JSON compressed with gzip, and ``page`` the page itself. Both raise UpstreamError if it can't be read.
    ``fresh_for`` is 0 if a change must be visible at once.
    """

    tag: str
    serial: str
    size: int
    form: Callable[[], bytes]
    page: Callable[[], pages.Page]


@dataclass(frozen=True, kw_only=True)
class Cached(Validity):
    """A page of the cache. ``form`` and ``listing`` are as in PageStore."""

    header: Header
    form: Callable[[], bytes]
    listing: Callable[[], Listing]


class PageCache:
    """The cached pages of one index and one upstream: a changed URL of the upstream has another folder.

    ``index`` is the name of the index, ``folder`` has the pages of all indexes, and ``freshness`` is in seconds.
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
        self.store = PageStore(page_folder(folder, index, upstream.url), clock)
        self.freshness = freshness
        self.clock = clock
        self.revalidations: SingleFlight[Cached] = SingleFlight(THREADS, "pages")
        # Projects that the upstream did not have, and until when they are not requested again.
        self.absent: dict[str, tuple[float, UpstreamError]] = {}
        # Until when cached pages are served without a request to the upstream, which did not respond, and the error.
        self.unavailable = (0.0, "")
        # Projects with a cached page to which the upstream has responded with 404 or 410 once, and when.
        self.denied: dict[str, float] = {}
        # Projects whose page was requested because the upstream denied a file, and until when it is not requested again.
        self.rechecked: dict[str, float] = {}

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
            # Whole seconds, and not 0, which would be a page that must not be cached.
            fresh_for=max(int(cached.fresh_for), 1),
            is_usable_stale=cached.is_usable_stale,
            error=cached.error,
        )

    def listing(self, project: str) -> Listing:
        """Return the listing of the page of a project. Raises UpstreamError."""
        return self.read(self.current(project, self.open(project)).listing, project)

    def open(self, project: str) -> StoredPage | None:
        """Return the stored page of a project, of any age. Raises UpstreamError if the name is not normalized."""
        if not PROJECT.fullmatch(project):
            raise UpstreamError(f"{project!r} is not the name of a project", 404)
        return self.store.get(project)

    def current(self, project: str, stored: StoredPage | None, *, reload: bool = False) -> Cached:
        """Return the stored page of a project if it is fresh, or else revalidate it. Raises UpstreamError."""
        if stored and not reload and project not in self.denied:
            age = self.age(stored)
            if age < self.freshness:
                return cached_page(stored, self.freshness - age)
            until, why = self.unavailable
            if self.is_pending(until, config.FAILURE_FRESHNESS):
                return cached_page(stored, until - self.clock(), error=why)
        until, error = self.absent.get(project, (0.0, None))
        if error and not reload and self.is_pending(until, config.ABSENT_FRESHNESS):
            raise error
        try:
            timeout = config.REVALIDATION_TIMEOUT if stored else config.PAGE_TIMEOUT
            # Another request may have stored the page since this one found none.
            return self.revalidations.run(
                project, lambda: self.revalidate(project, stored or self.store.get(project)), timeout
            )
        except TimeoutError:
            late = UpstreamError(
                f"the upstream's page of {project} has not arrived after {timeout:.0f} s", is_outage=True
            )
            return self.without_upstream(stored, late)

    def is_pending(self, until: float, limit: float) -> bool:
        """Return whether a time is in the next ``limit`` seconds. A later one is ignored: the clock was set back."""
        return 0 < until - self.clock() <= limit

    def age(self, stored: StoredPage) -> float:
        """Return the seconds since the upstream confirmed a page. They are infinite if that is in the future by the clock."""
        age = self.clock() - stored.confirmed
        return max(age, 0.0) if age >= -CLOCK_TOLERANCE else math.inf

    def without_upstream(self, stored: StoredPage | None, error: UpstreamError) -> Cached:
        """Return a cached page that the upstream does not confirm. Raises the error if there is none.

        If the upstream denies the page, the error is also raised for a page that is too old to be served stale.
        """
        is_denied = error.status in PASSED_ON
        if not stored or (is_denied and self.age(stored) >= self.freshness + config.max_stale()):
            raise error
        # A page that is denied or that can't be parsed does not affect those of other projects.
        if error.is_outage:
            self.unavailable = (self.clock() + config.FAILURE_FRESHNESS, str(error))
        return cached_page(stored, config.FAILURE_FRESHNESS, is_usable_stale=not is_denied, error=str(error))

    def find(self, project: str, path: str, max_age: float) -> pages.File | None:
        """Return what the page of a project lists of the file that has a path below the index. Raises UpstreamError.

        A page that is up to ``max_age`` seconds old is used if it lists the file, even if it is not fresh: the path has the
        file's hash.
        """
        stored = self.open(project)
        age = self.age(stored) if stored else math.inf
        if stored and age < max_age:
            try:
                found = self.read(stored.listing, project).find(path)
            except UpstreamError:
                # It is downloaded again.
                stored = None
            else:
                if found or age < self.freshness:
                    return found
        return self.read(self.current(project, stored).listing, project).find(path)

    def find_current(self, project: str, path: str) -> pages.File | None:
        """Return what the upstream's page lists now of a file, which the upstream has denied. Raises UpstreamError.

        The page is requested once in FAILURE_FRESHNESS seconds, as clients can request a denied file again and again.
        """
        stored = self.open(project)
        if stored and self.is_pending(self.rechecked.get(project, 0.0), config.FAILURE_FRESHNESS):
            return self.read(stored.listing, project).find(path)
        try:
            return self.read(self.current(project, stored, reload=True).listing, project).find(path)
        finally:
            now = self.clock()
            self.rechecked = {name: until for name, until in self.rechecked.items() if until > now}
            self.rechecked[project] = now + config.FAILURE_FRESHNESS

    def read(self, part: Callable[[], T], project: str) -> T:
        """Return a part of a stored page. Raises UpstreamError if it can't be read: the page is then downloaded again."""
        try:
            return part()
        except (OSError, ValueError) as exc:
            self.purge(project)
            raise UpstreamError(f"{exc}, reading the page of {project}") from exc

    def revalidate(self, project: str, stored: StoredPage | None) -> Cached:
        """Request a page from the upstream, and store it. Raises UpstreamError."""
        with tempfile.SpooledTemporaryFile(LARGE, dir=str(config.TEMPORARY)) as body:
            return self.request(project, stored, cast(BinaryIO, body))

    def request(self, project: str, stored: StoredPage | None, body: BinaryIO) -> Cached:
        """Request a page, whose response is written to ``body``, and store it. Raises UpstreamError."""
        headers = {"Accept": ACCEPT}
        if stored and stored.header.etag:
            headers["If-None-Match"] = stored.header.etag
        try:
            response = self.upstream.receive(f"{self.upstream.url}{project}/", headers, body)
            if response.status == 304 and stored:
                self.forget_errors(project)
                stored.confirm(self.clock())
                return cached_page(stored, self.freshness)
            if response.status != 200:
                raise UpstreamError(
                    f"could not download the page of {project}: the upstream responded with status {response.status}"
                )
            # A response that is no page must not replace a stored page.
            form, listing = self.convert(project, response)
        except UpstreamError as exc:
            if exc.status in (404, 410):
                return self.confirm_removal(project, stored, exc)
            return self.without_upstream(stored, exc)
        except Exception as exc:
            # An unexpected response must not make the stored page unavailable.
            reason = str(exc) if isinstance(exc, (pages.PageError, OSError)) else f"{type(exc).__name__}: {exc}"
            return self.without_upstream(stored, UpstreamError(f"could not download the page of {project}: {reason}"))
        header = header_of(response, form, listing)
        self.forget_errors(project)
        written = self.store.write(project, header, form, listing)
        if written:
            return cached_page(written, self.freshness)
        # If the disk is full, an older page remains, which the upstream has not confirmed.
        return Cached(header=header, form=lambda: form, listing=lambda: Listing(listing), fresh_for=self.freshness)

    def convert(self, project: str, response: Received) -> tuple[bytes, bytes]:
        """Return the form and the listing of the page in a response. Raises PageError."""
        with one_if_large(response.size):
            response.body.seek(0)
            page = parse(response.body.read(), response.headers.get("Content-Type", ""), response.url)
            page.setdefault("name", project)
            listing = localize(page, self.index)
            return compressed(render_json(page)), listing

    def forget_errors(self, project: str) -> None:
        self.absent.pop(project, None)
        self.denied.pop(project, None)

    def confirm_removal(self, project: str, stored: StoredPage | None, error: UpstreamError) -> Cached:
        """Return the stored page of a project that the upstream denies for the first time. Raises UpstreamError after that."""
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
        """Remove the page of a project, so that the next request waits for the upstream."""
        self.forget_errors(project)
        self.store.purge(project)


def cached_page(stored: StoredPage, fresh_for: float, *, is_usable_stale: bool = True, error: str = "") -> Cached:
    return Cached(
        header=stored.header,
        form=stored.form,
        listing=stored.listing,
        fresh_for=fresh_for,
        is_usable_stale=is_usable_stale,
        error=error,
    )


def page_of(form: bytes) -> pages.Page:
    """Return the page, with links to this mirror."""
    return dict(orjson.loads(gzip.decompress(form)))


def one_if_large(size: int) -> AbstractContextManager[Any]:
    """Return a context that only one thread enters at a time if it parses or renders a large page, of ``size`` bytes."""
    return LOCK if size > LARGE else nullcontext()


def header_of(response: Received, form: bytes, listing: bytes) -> Header:
    """Return what is stored with a page. Values that can't be sent in a header are left out."""
    etag, serial = (response.headers.get(name, "") for name in ("ETag", "X-PyPI-Last-Serial"))
    return Header(
        etag=etag if re.fullmatch("[ -~]{1,1000}", etag) else "",
        serial=serial if re.fullmatch("[0-9]{1,20}", serial) else "",
        tag=tag_of(form),
        size=response.size,
        length=len(form),
        listing_crc=zlib.crc32(listing),
    )
