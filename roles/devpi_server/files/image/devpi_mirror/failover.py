# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of an index with two upstreams: the fallback is used while the first one is unreachable.

Each upstream has its own cached pages, connections and credentials, so an ETag or a password is sent to its own upstream only.
For a project with a cached page of the first upstream, the fallback sends files only, which must have the hash on this page.
401, 403, 404, 410 and 429 of the first upstream are results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from . import config
from .links import Link, Target
from .listing import Listing
from .page_cache import PageCache, Served
from .pages import File, hash_of
from .upstream import UpstreamError

T = TypeVar("T")


class Failover:
    """The pages of an index. ``fallback`` has those of the second upstream, if there is one."""

    def __init__(self, cache: PageCache, fallback: PageCache | None = None) -> None:
        self.cache = cache
        self.fallback = fallback

    def use(self, request: Callable[[PageCache], T]) -> tuple[T, PageCache]:
        """Return what ``request`` returns for the cache of the upstream to use, and this cache. Raises UpstreamError."""
        try:
            return request(self.cache), self.cache
        except UpstreamError as exc:
            if self.fallback is None or not exc.permits_fallback:
                raise
            error = exc
        try:
            return request(self.fallback), self.fallback
        except UpstreamError as exc:
            if exc.permits_fallback:
                raise UpstreamError(f"{error}, and its fallback can't be used either: {exc}", is_outage=True) from exc
            raise

    def get(self, project: str, *, reload: bool = False) -> Served:
        """Return the page of a project by its normalized name. Raises UpstreamError."""
        served, cache = self.use(lambda cache: cache.get(project, reload=reload))
        if cache is self.cache:
            return served
        # The first upstream can respond again at any time.
        return replace(served, fresh_for=min(served.fresh_for, config.FAILURE_FRESHNESS), is_usable_stale=False)

    def listing(self, project: str) -> tuple[Listing, PageCache]:
        """Return the listing of the page of a project, and the cache that has the page. Raises UpstreamError."""
        return self.use(lambda cache: cache.listing(project))

    def find(self, project: str, path: str, max_age: float) -> Link | None:
        """Return the link to the file that has a path below the index, or None if the page does not list it.

        ``max_age`` is as for PageCache. Raises UpstreamError.
        """
        file, cache = self.use(lambda cache: cache.find(project, path, max_age))
        return self.link(project, path, file, cache) if file else None

    def link(self, project: str, path: str, file: File, cache: PageCache) -> Link:
        """Return the link to a file that a page of ``cache`` lists, which follows this page."""
        fallback = self.fallback if cache is self.cache else None

        def find_current() -> Target | None:
            try:
                found = cache.find_current(project, path)
            except UpstreamError:
                return None
            return Target(cache.upstream, found) if found else None

        def find_in_fallback() -> Target | None:
            if fallback is None or hash_of(file)[0] != "sha256":
                return None
            try:
                found = fallback.find(project, path, config.max_stale())
            except UpstreamError:
                return None
            if not found or hash_of(found) != hash_of(file):
                return None
            # Everything else, such as the hash of the core metadata, is as on the page that the client has.
            return Target(fallback.upstream, {**file, "url": found["url"]})

        is_of_fallback = cache is not self.cache
        return Link(Target(cache.upstream, file), find_current, find_in_fallback, is_of_fallback=is_of_fallback)
