# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirror indexes, each with the connections to its upstream, its cached pages and its prefetcher."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from devpi_common.metadata import splitbasename
from packaging.utils import canonicalize_name

from . import config
from .credentials import split_credentials
from .links import Link
from .page_cache import PageCache
from .pages import File
from .prefetch import Prefetcher
from .single_flight import SingleFlight
from .upstream import Upstream, UpstreamError

# Projects whose page is searched for one file: the name of a source archive does not show where its version begins.
PROJECTS = 4


class Mirror:
    """A mirror index. ``name`` is as in ``user/index``, and ``prefetch_project`` is called for each project to prefetch."""

    def __init__(self, name: str, url: str, prefetch_project: Callable[[Mirror, str], None]) -> None:
        self.name = name
        credentials = split_credentials(url)
        # The credentials of the public index are in the environment only, and in no database.
        own = split_credentials(os.environ.get("DEVPI_MIRROR_UPSTREAM_URL", ""))
        if name == config.INDEX and own.url.rstrip("/") == credentials.url.rstrip("/"):
            credentials = own
        self.upstream = Upstream(credentials.url, credentials.authorization)
        self.cache = PageCache(self.upstream, name, config.PAGES, float(config.freshness()))
        self.metadata: SingleFlight[bytes] = SingleFlight(config.METADATA_THREADS, "metadata")
        self.prefetcher = Prefetcher(lambda project: prefetch_project(self, project))

    def stored(self, path: str) -> Path:
        """Return the path of a file of the index on the disk, which exists once the file is stored."""
        return config.FILES / self.name / path

    def find(self, path: str, *, at_any_age: bool = False) -> tuple[str, File]:
        """Return the project of a file, and the file as the project's page lists it. Raises UpstreamError.

        ``at_any_age`` is whether a cached page of any age is searched first, or only one that may be served.
        """
        max_age = math.inf if at_any_age else config.max_stale()
        error = UpstreamError(f"the upstream lists no file {path}", 404)
        for project in projects_of(path.rpartition("/")[2]):
            try:
                file = self.cache.find(project, path, max_age)
            except UpstreamError as exc:
                if exc.status not in (404, 410):
                    raise
                error = exc
                continue
            if file:
                return project, file
        raise error

    def link(self, project: str, path: str, file: File) -> Link:
        """Return the link to a file, which follows the upstream's page."""

        def find_current() -> File | None:
            try:
                return self.cache.find_current(project, path)
            except UpstreamError:
                return None

        return Link(file, find_current)


def projects_of(filename: str) -> list[str]:
    """Return the projects that can have a file of this name, the most likely one first."""
    if filename.endswith(".whl"):
        return [canonicalize_name(filename.partition("-")[0])]
    try:
        likely = [canonicalize_name(splitbasename(filename)[0])]  # type: ignore[no-untyped-call]
    except ValueError:
        likely = []
    hyphens = [index for index, character in enumerate(filename) if character == "-"]
    names: list[str] = [*likely, *(canonicalize_name(filename[:index]) for index in hyphens)]
    return list(dict.fromkeys(names))[:PROJECTS]
