"""Prefetching of what an installer is about to request.

pip requests one thing after another: a project's page, the metadata of a release, the pages of what that release requires, and
all files at the end. uv requests pages at once, and files at the end too. An installer that requests the metadata of a release
is about to request the rest, so the mirror requests it meanwhile.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.parser import BytesHeaderParser
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .core_metadata import HEADERS_LIMIT, headers_of

INSTALLERS = re.compile(r"(pip|uv)/")
# Seconds in which one file of a project is prefetched and no other: a resolver that tries many releases takes one of them.
ONE_IN = 600.0
# Lines of metadata that are parsed, each of which takes milliseconds; pages that wait for their turn; and releases whose
# headers do. What exceeds a limit is not prefetched.
REQUIREMENTS = 200
TASKS = 1000
PLANS = 200


def required(headers: bytes) -> list[str]:
    """Return the projects that core metadata requires, by their normalized names, without those of extras."""
    names = []
    for line in BytesHeaderParser().parsebytes(headers).get_all("Requires-Dist", [])[:REQUIREMENTS]:
        with suppress(InvalidRequirement):
            requirement = Requirement(line)
            if "extra" not in str(requirement.marker or ""):
                names.append(canonicalize_name(requirement.name))
    return list(dict.fromkeys(names))


class Prefetcher:
    """Prefetches pages with ``get_page`` and files, two of each at a time, in the order of requests."""

    def __init__(self, get_page: Callable[[str], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.get_page = get_page
        self.clock = clock
        self.prefetched: dict[str, float] = {}
        self.lock = threading.Lock()
        self.plans = ThreadPoolExecutor(1, thread_name_prefix="prefetch-plans")
        self.pages = ThreadPoolExecutor(2, thread_name_prefix="prefetch-pages")
        self.room = {
            self.plans: threading.BoundedSemaphore(PLANS),
            self.pages: threading.BoundedSemaphore(TASKS),
        }

    def is_new(self, what: str) -> bool:
        """Return whether something was not prefetched lately, and note that it is."""
        with self.lock:
            now = self.clock()
            self.prefetched = {name: at for name, at in self.prefetched.items() if now - at < ONE_IN}
            if what in self.prefetched:
                return False
            self.prefetched[what] = now
            return True

    def submit(self, pool: ThreadPoolExecutor, task: Callable[..., Any], *arguments: Any) -> None:
        """Run a task in a pool, unless too many wait already."""
        room = self.room[pool]
        if room.acquire(blocking=False):
            pool.submit(task, *arguments).add_done_callback(lambda _done: room.release())

    def metadata_was_requested(self, project: str, metadata: bytes, prefetch_file: Callable[[], Any]) -> None:
        """Prefetch what is requested after the metadata of a release. Returns at once."""
        headers = headers_of(metadata)
        if len(headers) < HEADERS_LIMIT:
            self.submit(self.plans, self.plan, project, headers, prefetch_file)

    def plan(self, project: str, headers: bytes, prefetch_file: Callable[[], Any]) -> None:
        for name in required(headers):
            if self.is_new(name + "/"):
                self.submit(self.pages, self.get_page, name)
        if self.is_new(project):
            prefetch_file()
