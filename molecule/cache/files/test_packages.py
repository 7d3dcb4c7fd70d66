# SPDX-License-Identifier: GPL-3.0-or-later
"""No package that is published or uploaded can stop devpi or make the mirror download without limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

import pytest
from harness import JSON, PUBLIC, RECOVERY_LIMIT, Mirror, on_host, until, upstream_requests

mirror = Mirror()


@pytest.fixture(autouse=True)
def _devpi_keeps_running() -> Iterator[None]:
    """Assert that devpi is still the same process after the test."""
    processes = "pgrep -f '[d]evpi_mirror.server'"
    before = on_host(processes)
    yield
    assert on_host(processes) == before


@pytest.mark.parametrize("name", ["bomb", "crowded"])
def test_a_page_that_takes_too_much_memory_is_an_error(name: str) -> None:
    assert mirror.page(name).status == 503


def test_twenty_of_the_largest_pages_at_once_fit_into_400_megabytes() -> None:
    memory = on_host("docker inspect --format '{{.HostConfig.Memory}}' devpi").strip()

    def request_page(number: int) -> int:
        # Installers retry too, if other pages take too long.
        return mirror.ask(f"{PUBLIC}huge{number}/", Accept=JSON, Accept_Encoding="gzip").status

    limit_memory("400m")
    try:
        with ThreadPoolExecutor(20) as clients:
            until(
                lambda: set(clients.map(request_page, range(20))) == {200}, "large pages are not served", RECOVERY_LIMIT
            )
    finally:
        limit_memory(memory)


def limit_memory(limit: str) -> None:
    on_host(f"docker update --memory {limit} --memory-swap {limit} devpi")


def test_public_metadata_that_expands_to_too_much_is_an_error() -> None:
    # The upstream takes seconds to build this wheel, which can be longer than the mirror waits for a page.
    until(lambda: mirror.page("expanding").status == 200, "the page of the wheel is not served", RECOVERY_LIMIT)
    (file,) = mirror.files("expanding").values()
    assert mirror.ask(file["path"] + ".metadata").status == 404
    assert mirror.ask(file["path"]).status == 200
    assert mirror.ask(file["path"] + ".metadata").status == 404


def test_private_metadata_that_expands_to_too_much_is_an_error() -> None:
    mirror.create_user("alice").upload("swelling", "1.0", padding=1500)
    page = "/alice/private/+simple/swelling/"
    (file,) = json.loads(mirror.ask(page, Accept=JSON).text)["files"]
    path = urljoin(page, file["url"]).partition("#")[0]
    assert mirror.ask(path).status == 200
    assert mirror.ask(path + ".metadata").status == 404


def prefetched(first: int, last: int) -> int:
    """Return how many of the projects new<first> to new<last> were requested from the upstream."""
    pages = {f"/simple/new{number}/" for number in range(first, last + 1)}
    return len(pages.intersection(upstream_requests()))


def test_a_release_that_requires_thousands_of_projects_has_some_of_them_prefetched() -> None:
    for name in ("greedy", "new941"):
        (file,) = mirror.files(name).values()
        assert mirror.ask(file["path"] + ".metadata", User_Agent="pip/26.0").status == 200
    # Pages are prefetched in the order of requests.
    until(lambda: prefetched(942, 942), "what the second release requires is not prefetched", RECOVERY_LIMIT)
    assert 0 < prefetched(5000, 9999) <= 200
