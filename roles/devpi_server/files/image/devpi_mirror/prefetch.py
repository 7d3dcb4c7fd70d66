# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefetch the pages, metadata and files that an installer is about to request.

pip requests a project's page, the metadata of a release, the pages of the projects that the release requires, and so on, one at
a time, and all files at the end. uv sends these requests in parallel. When an installer requests the metadata of a release, the
mirror prefetches the pages of the required projects, the metadata of the newest release on each of these pages, and the file of
the release itself.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.parser import BytesHeaderParser
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from .core_metadata import HEADERS_LIMIT, headers_of
from .listing import Listing
from .pages import File

INSTALLERS = re.compile(r"(pip|uv)/")
# Seconds in which at most one file of a project is prefetched: a resolver that tries many releases installs one of them.
INTERVAL = 600.0
# Limits of what is prefetched: requirements of a release that are parsed, each of which takes milliseconds, and queued projects
# and releases.
REQUIREMENTS = 200
QUEUED_PROJECTS = 1000
QUEUED_RELEASES = 200
# Bytes of prefetched metadata that no client has requested yet.
PREFETCHED_LIMIT = 4_000_000


def required(headers: bytes) -> list[str]:
    """Return the normalized names of the projects that core metadata requires, without those of extras."""
    names = []
    for line in BytesHeaderParser().parsebytes(headers).get_all("Requires-Dist", [])[:REQUIREMENTS]:
        requirement, _semicolon, marker = line.partition(";")
        # Parsing markers takes longer than the rest, and many releases have a hundred requirements of extras.
        if "extra" not in marker:
            with suppress(InvalidRequirement):
                names.append(canonicalize_name(Requirement(requirement).name))
    return list(dict.fromkeys(names))


def likely_wheel(listing: Listing, is_hidden: Callable[[File], Any]) -> tuple[str, File] | None:
    """Return the path and the wheel that most installers choose from a listing, or None if that depends on the platform.

    It belongs to the last listed release, which is usually the newest: comparing all versions would take longer than a request.
    """
    newest = None
    for path, file in listing.newest_first():
        if not file["filename"].endswith(".whl") or file.get("yanked") or is_hidden(file):
            continue
        with suppress(InvalidWheelFilename):
            _name, version, _build, tags = parse_wheel_filename(file["filename"])
            if version.is_prerelease:
                continue
            if newest not in (None, version):
                break
            newest = version
            if any(tag.platform == "any" for tag in tags):
                return path, file
    return None


class PrefetchedMetadata:
    """Prefetched core metadata that no client has requested yet. Beyond ``limit`` bytes, the oldest is dropped."""

    def __init__(self, limit: int = PREFETCHED_LIMIT) -> None:
        self.limit = limit
        self.lock = threading.Lock()
        self.contents: OrderedDict[Hashable, bytes] = OrderedDict()

    def add(self, key: Hashable, content: bytes) -> None:
        with self.lock:
            self.contents[key] = content
            while sum(map(len, self.contents.values())) > self.limit:
                self.contents.popitem(last=False)

    def pop(self, key: Hashable) -> bytes | None:
        with self.lock:
            return self.contents.pop(key, None)


class Prefetcher:
    """Prefetches projects with ``prefetch_project``, four at a time, and files, in the order of the clients' requests."""

    def __init__(self, prefetch_project: Callable[[str], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.prefetch_project = prefetch_project
        self.clock = clock
        # When projects were last prefetched, and when a client last requested their metadata.
        self.prefetched: dict[str, float] = {}
        self.requested: dict[str, float] = {}
        self.lock = threading.Lock()
        self.plans = ThreadPoolExecutor(1, thread_name_prefix="prefetch-plans")
        self.projects = ThreadPoolExecutor(4, thread_name_prefix="prefetch-projects")
        self.free = {
            self.plans: threading.BoundedSemaphore(QUEUED_RELEASES),
            self.projects: threading.BoundedSemaphore(QUEUED_PROJECTS),
        }

    def is_new(self, names: dict[str, float], project: str) -> bool:
        """Return whether a project was not added to ``names`` lately, and add it."""
        with self.lock:
            now = self.clock()
            # The oldest is the first.
            while names and now - next(iter(names.values())) >= INTERVAL:
                del names[next(iter(names))]
            if project in names:
                return False
            names[project] = now
            return True

    def is_first_request(self, project: str) -> bool:
        """Return whether no metadata of a project was requested lately, and record that it is requested now."""
        return self.is_new(self.requested, project)

    def was_requested(self, project: str) -> bool:
        """Return whether metadata of a project was requested lately."""
        return project in self.requested

    def submit(self, pool: ThreadPoolExecutor, task: Callable[..., Any], *arguments: Any) -> None:
        """Run a task in a pool, unless too many tasks are queued."""
        free = self.free[pool]
        if free.acquire(blocking=False):
            pool.submit(task, *arguments).add_done_callback(lambda _done: free.release())

    def prefetch_after_metadata(self, metadata: bytes, prefetch_file: Callable[[], Any] | None) -> None:
        """Prefetch what installers request after the metadata of a release. Returns at once."""
        headers = headers_of(metadata)
        if len(headers) < HEADERS_LIMIT:
            self.submit(self.plans, self.plan, headers, prefetch_file)

    def plan(self, headers: bytes, prefetch_file: Callable[[], Any] | None) -> None:
        for name in required(headers):
            if self.is_new(self.prefetched, name):
                self.submit(self.projects, self.prefetch_project, name)
        if prefetch_file:
            prefetch_file()
