"""Fetch what an installer is about to ask for.

pip asks for one thing after another: a project's page, the metadata of a release, the pages of what that release requires, and
all files at the end. uv asks for pages at once, and for files at the end too. Who has asked for the metadata of a release is
about to ask for the rest, so the mirror fetches it meanwhile, through nginx, which has whoever asks for the same wait for it.
"""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.parser import BytesHeaderParser
from typing import Any, Callable
from urllib.request import ProxyHandler, Request, build_opener

from archives import HEADERS_LIMIT, headers_of
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

MIRROR = "http://127.0.0.1:3141"
INDEX = "/root/pypi"
JSON = "application/vnd.pypi.simple.v1+json"
# Seconds in which one file of a project is fetched ahead and no other: a resolver that tries many releases takes one of them.
ONE_IN = 600
# Lines of metadata that are parsed, each of which takes milliseconds; pages and files that wait for their turn; and releases
# whose headers do. What exceeds a limit is not prefetched.
REQUIREMENTS = 200
TASKS = 1000
PLANS = 200
PATH = re.compile(re.escape(INDEX) + r"/\+f/[0-9a-f]+/[0-9a-f]+/(?P<project>[^/-]+)-[^/]+\.whl\.metadata")

OPENER = build_opener(ProxyHandler({}))


def fetch(path: str) -> None:
    """Ask the mirror for something, so that it has it."""
    request = Request(
        MIRROR + path, headers={"Accept": JSON, "Accept-Encoding": "gzip", "User-Agent": "devpi.mirror ahead"}
    )
    # Whoever asks for it in earnest is told what is wrong.
    with suppress(OSError), OPENER.open(request, timeout=60) as response:
        while response.read(65536):
            pass


def required(headers: bytes) -> list[str]:
    """Return the projects that core metadata requires, by their names in URLs, without those of extras."""
    names = []
    for line in BytesHeaderParser().parsebytes(headers).get_all("Requires-Dist", [])[:REQUIREMENTS]:
        with suppress(InvalidRequirement):
            requirement = Requirement(line)
            if "extra" not in str(requirement.marker or ""):
                names.append(canonicalize_name(requirement.name))
    return list(dict.fromkeys(names))


class Ahead:
    """Fetches pages and files, some at a time, in the order in which they were told."""

    def __init__(self, get: Callable[[str], None] = fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self.get = get
        self.clock = clock
        self.fetched: dict[str, float] = {}
        self.lock = threading.Lock()
        self.plans = ThreadPoolExecutor(1)
        self.pages = ThreadPoolExecutor(2)
        self.files = ThreadPoolExecutor(2)
        tasks = threading.BoundedSemaphore(TASKS)
        self.room = {self.plans: threading.BoundedSemaphore(PLANS), self.pages: tasks, self.files: tasks}

    def is_new(self, what: str) -> bool:
        """Tell whether something was not fetched lately, and note that it is."""
        with self.lock:
            now = self.clock()
            self.fetched = {name: at for name, at in self.fetched.items() if now - at < ONE_IN}
            if what in self.fetched:
                return False
            self.fetched[what] = now
            return True

    def submit(self, pool: ThreadPoolExecutor, task: Callable[..., None], *arguments: Any) -> None:
        """Run a task in a pool, unless too many wait already."""
        room = self.room[pool]
        if room.acquire(blocking=False):
            pool.submit(task, *arguments).add_done_callback(lambda _done: room.release())

    def go_on_from(self, path: str, metadata: bytes) -> None:
        """Prefetch what is requested after the metadata at this path of the mirror. Returns at once."""
        found = PATH.fullmatch(path)
        headers = headers_of(metadata)
        if found and len(headers) < HEADERS_LIMIT:
            self.submit(self.plans, self.plan, path, found["project"], headers)

    def plan(self, path: str, project: str, headers: bytes) -> None:
        for name in required(headers):
            if self.is_new(name + "/"):
                self.submit(self.pages, self.get, f"{INDEX}/+simple/{name}/")
        if self.is_new(project):
            self.submit(self.files, self.get, path.removesuffix(".metadata"))
