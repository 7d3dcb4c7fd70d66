"""Prefetching of what an installer is about to request.

pip requests one thing after another: a project's page, the metadata of a release, the pages of what that release requires, and
all files at the end. uv requests pages at once, and files at the end too. An installer that requests the metadata of a release
is about to request the rest, so the mirror requests it meanwhile: the pages of what the release requires, the metadata of the
newest release on each of these pages, and the release's own file.
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

from . import pages
from .core_metadata import HEADERS_LIMIT, headers_of

INSTALLERS = re.compile(r"(pip|uv)/")
# Seconds in which one file of a project is prefetched and no other: a resolver that tries many releases takes one of them.
ONE_IN = 600.0
# Lines of metadata that are parsed, each of which takes milliseconds; projects that wait for their turn; and releases whose
# headers do. What exceeds a limit is not prefetched.
REQUIREMENTS = 200
TASKS = 1000
PLANS = 200
# Bytes of metadata that waits for a client.
UNREQUESTED = 4_000_000


def required(headers: bytes) -> list[str]:
    """Return the projects that core metadata requires, by their normalized names, without those of extras."""
    names = []
    for line in BytesHeaderParser().parsebytes(headers).get_all("Requires-Dist", [])[:REQUIREMENTS]:
        requirement, _semicolon, marker = line.partition(";")
        # To parse markers takes longer than the rest, and many releases have a hundred requirements of extras.
        if "extra" not in marker:
            with suppress(InvalidRequirement):
                names.append(canonicalize_name(Requirement(requirement).name))
    return list(dict.fromkeys(names))


def likely_wheel(listing: pages.Listing) -> tuple[str, pages.File] | None:
    """Return the path and the wheel that most installers take of a listing, or None if that depends on their platform.

    It is that of the newest release, which indexes list last. To compare all versions would take longer than to request it.
    """
    newest = None
    for path, file in listing.newest_first():
        if not file["filename"].endswith(".whl") or file.get("yanked"):
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


class Unrequested:
    """Core metadata that was prefetched and that no client has requested yet, the oldest of which goes if it is too much."""

    def __init__(self, limit: int = UNREQUESTED) -> None:
        self.limit = limit
        self.lock = threading.Lock()
        self.contents: OrderedDict[Hashable, bytes] = OrderedDict()

    def put(self, key: Hashable, content: bytes) -> None:
        with self.lock:
            self.contents[key] = content
            while sum(map(len, self.contents.values())) > self.limit:
                self.contents.popitem(last=False)

    def take(self, key: Hashable) -> bytes | None:
        with self.lock:
            return self.contents.pop(key, None)


class Prefetcher:
    """Prefetches projects with ``prefetch_project``, four at a time, and files, in the order of requests."""

    def __init__(self, prefetch_project: Callable[[str], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.prefetch_project = prefetch_project
        self.clock = clock
        # Projects that were prefetched lately, and those of which a client has requested metadata, and when.
        self.prefetched: dict[str, float] = {}
        self.requested: dict[str, float] = {}
        self.lock = threading.Lock()
        self.plans = ThreadPoolExecutor(1, thread_name_prefix="prefetch-plans")
        self.projects = ThreadPoolExecutor(4, thread_name_prefix="prefetch-projects")
        self.room = {
            self.plans: threading.BoundedSemaphore(PLANS),
            self.projects: threading.BoundedSemaphore(TASKS),
        }

    def is_new(self, names: dict[str, float], project: str) -> bool:
        """Return whether a project was not noted lately in ``names``, and note it."""
        with self.lock:
            now = self.clock()
            # The oldest is the first.
            while names and now - next(iter(names.values())) >= ONE_IN:
                del names[next(iter(names))]
            if project in names:
                return False
            names[project] = now
            return True

    def is_first_request(self, project: str) -> bool:
        """Return whether no metadata of a project was requested lately, and note that it is."""
        return self.is_new(self.requested, project)

    def was_requested(self, project: str) -> bool:
        """Return whether metadata of a project was requested lately."""
        return project in self.requested

    def submit(self, pool: ThreadPoolExecutor, task: Callable[..., Any], *arguments: Any) -> None:
        """Run a task in a pool, unless too many wait already."""
        room = self.room[pool]
        if room.acquire(blocking=False):
            pool.submit(task, *arguments).add_done_callback(lambda _done: room.release())

    def metadata_is_sent(self, metadata: bytes, prefetch_file: Callable[[], Any] | None) -> None:
        """Prefetch what is requested after the metadata of a release. Returns at once."""
        headers = headers_of(metadata)
        if len(headers) < HEADERS_LIMIT:
            self.submit(self.plans, self.plan, headers, prefetch_file)

    def plan(self, headers: bytes, prefetch_file: Callable[[], Any] | None) -> None:
        for name in required(headers):
            if self.is_new(self.prefetched, name):
                self.submit(self.projects, self.prefetch_project, name)
        if prefetch_file:
            prefetch_file()
