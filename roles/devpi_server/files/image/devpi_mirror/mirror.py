# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirror indexes, each with the connections to its upstream, its cached pages, its policy and its prefetcher."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from devpi_common.metadata import splitbasename
from packaging.utils import canonicalize_name

from . import config
from .compat import default_mirror_url
from .compression import compressed
from .credentials import split_credentials
from .failover import Failover
from .links import Link
from .metrics.upstream import recorder
from .page_cache import PageCache, Served, one_if_large
from .page_store import tag_of
from .pages import File, linked_path
from .policy import Hidden, HiddenError, Policy
from .prefetch import Prefetcher
from .rendering import render_json
from .single_flight import SingleFlight
from .upstream import Circuit, Upstream, UpstreamError

# Projects whose page is searched for one file: the name of a source archive does not show where its version begins.
PROJECTS = 4


def configured_urls() -> dict[str, str]:
    """Return the URLs in the environment, by index. Only there they have credentials, which are in no database."""
    urls: dict[str, str] = json.loads(os.environ.get("DEVPI_MIRROR_CREDENTIALS") or "{}")
    return {config.INDEX: os.environ.get("DEVPI_MIRROR_UPSTREAM_URL", ""), **urls}


def is_configured(index: str, url: str) -> bool:
    """Return whether the URL of an index's upstream is that in the environment, and was not changed with devpi's own client."""
    configured = split_credentials(configured_urls().get(index, ""))
    return configured.url.rstrip("/") == split_credentials(url).url.rstrip("/")


def fallback_url(index: str, url: str) -> str:
    """Return the URL of the upstream that an index uses while that of ``url`` is unreachable, or an empty text.

    Only the public index can have such an upstream, and only with the URL that it was chosen for.
    """
    if not os.environ.get("DEVPI_MIRROR_UPSTREAM_FALLBACK") or index != config.INDEX or not is_configured(index, url):
        return ""
    return os.environ.get("DEVPI_MIRROR_UPSTREAM_FALLBACK_URL") or default_mirror_url()


class Mirror:
    """A mirror index. ``name`` is as in ``user/index``, and ``prefetch_project`` is called for each project to prefetch."""

    def __init__(self, name: str, url: str, prefetch_project: Callable[[Mirror, str], None]) -> None:
        self.name = name
        # Set before each request, as the index can get another policy at any time.
        self.policy: Policy | None = None
        credentials = split_credentials(configured_urls().get(name, url) if is_configured(name, url) else url)
        second_url = fallback_url(name, url)
        fallback = Upstream(*split_credentials(second_url), record=recorder(name, "fallback")) if second_url else None
        upstream = Upstream(*credentials, Circuit() if fallback else None, recorder(name, "main"))
        caches = [PageCache(one, name, config.PAGES, float(config.freshness())) for one in (upstream, fallback) if one]
        self.pages = Failover(*caches)
        self.metadata: SingleFlight[bytes] = SingleFlight(config.METADATA_THREADS, "metadata")
        self.prefetcher = Prefetcher(lambda project: prefetch_project(self, project))

    def get(self, project: str, *, reload: bool = False) -> Served:
        """Return the page of a project without the files that the policy hides. Raises UpstreamError."""
        served = self.pages.get(project, reload=reload)
        policy = self.policy
        if policy is None:
            return served
        with one_if_large(served.size):
            now = datetime.now(UTC)
            page, hidden = policy.apply(project, served.page(), now)
            if not hidden:
                return served
            content = compressed(render_json(page))
        times = [reason.available_at for reason in hidden if reason.available_at]
        next_change = min(((time - now).total_seconds() for time in times), default=served.fresh_for)
        return replace(
            served,
            tag=tag_of(content),
            form=lambda: content,
            page=lambda: page,
            fresh_for=max(1, int(min(served.fresh_for, next_change))),
        )

    def hides(self, project: str, file: File) -> Hidden | None:
        """Return why the policy hides a file, or None if it does not."""
        return self.policy.hides(project, file, datetime.now(UTC)) if self.policy else None

    def require_visible(self, path: str) -> None:
        """Raise HiddenError if the policy hides the file of this path, and UpstreamError if that can't be determined."""
        if self.policy is None:
            return
        try:
            project, link = self.find(path)
            file = link.file
        except UpstreamError:
            stored = self.stored(path)
            if not stored.is_file():
                raise
            # It was uploaded before it was stored.
            time = datetime.fromtimestamp(stored.stat().st_mtime, UTC)
            project, file = projects_of(stored.name)[0], {"filename": stored.name, "upload-time": time.isoformat()}
        hidden = self.hides(project, file)
        if hidden and "upload-time" not in file:
            # The listings of earlier releases lack it.
            files = self.pages.get(project).page()["files"]
            hidden = self.hides(
                project, next((one for one in files if linked_path(one["url"], self.name) == path), file)
            )
        if hidden:
            raise HiddenError(file["filename"], hidden)

    def stored(self, path: str) -> Path:
        """Return the path of a file of the index on the disk, which exists once the file is stored."""
        return config.FILES / self.name / path

    def find(self, path: str, *, at_any_age: bool = False) -> tuple[str, Link]:
        """Return the project of a file, and the link that the project's page has. Raises UpstreamError.

        ``at_any_age`` is whether a cached page of any age is searched first, or only one that may be served.
        """
        max_age = math.inf if at_any_age else config.max_stale()
        error = UpstreamError(f"the upstream lists no file {path}", 404)
        for project in projects_of(path.rpartition("/")[2]):
            try:
                link = self.pages.find(project, path, max_age)
            except UpstreamError as exc:
                if exc.status not in (404, 410):
                    raise
                error = exc
                continue
            if link:
                return project, link
        raise error


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
