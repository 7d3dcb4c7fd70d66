# SPDX-License-Identifier: GPL-3.0-or-later
"""What the image's prefetch.py requests after an installer has requested the metadata of a release."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from devpi_mirror import prefetch
from devpi_mirror.core_metadata import headers_of
from devpi_mirror.listing import Listing, localize
from devpi_mirror.prefetch import INSTALLERS, PrefetchedMetadata, Prefetcher, likely_wheel, required

METADATA = b"""Metadata-Version: 2.1
Name: black
Requires-Dist: click>=8.0.0
Requires-Dist: Typing_Extensions>=4.0.1; python_version < "3.11"
Requires-Dist: aiohttp>=3.10; extra == "d"
Requires-Dist: colorama>=0.4; (python_version < "3.11") and extra == "color"
Requires-Dist: click!=8.1
Requires-Dist: not a requirement

Requires-Dist: of-the-description
"""


class Recorded(Prefetcher):
    """Records what it prefetches. ``now`` is the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: list[str] = []
        super().__init__(self.seen.append, lambda: self.now)

    def request(self, version: str, metadata: bytes, project: str = "black") -> None:
        """Do the same as the plugin when a client requests the metadata of a release."""
        is_first = self.is_first_request(project)
        self.prefetch_after_metadata(metadata, partial(self.seen.append, f"{project}-{version}") if is_first else None)

    def all_seen(self) -> list[str]:
        for pool in (self.plans, self.projects):
            pool.shutdown()
        return sorted(self.seen)


@pytest.fixture
def prefetcher():
    made = Recorded()
    yield made
    made.all_seen()


def test_projects_that_metadata_requires():
    assert required(headers_of(METADATA)) == ["click", "typing-extensions"]
    assert required(b"") == []


def test_pages_and_the_file_are_prefetched(prefetcher):
    prefetcher.request("26.1", METADATA)
    assert prefetcher.all_seen() == ["black-26.1", "click", "typing-extensions"]


def test_a_project_is_not_prefetched_again_soon(prefetcher):
    for project in ("black", "flake8"):
        prefetcher.request("1", METADATA, project)
    # In its turn, so that the others have been planned.
    prefetcher.plans.submit(lambda: None).result()
    prefetcher.now += prefetch.INTERVAL
    prefetcher.request("2", METADATA)
    assert prefetcher.all_seen() == sorted(["black-1", "black-2", "flake8-1", *["click", "typing-extensions"] * 2])


def test_one_file_of_a_project_is_prefetched_although_several_releases_are_tried(prefetcher):
    for version in ("26.1", "25.1"):
        prefetcher.request(version, b"")
    prefetcher.plans.submit(lambda: None).result()
    prefetcher.now += prefetch.INTERVAL + 1
    prefetcher.request("24.1", b"")
    assert prefetcher.all_seen() == ["black-24.1", "black-26.1"]


def test_a_project_that_fails_does_not_stop_the_others(prefetcher):
    def fail_once(name):
        prefetcher.seen.append(name)
        if name == "click":
            raise OSError("the upstream does not respond")

    prefetcher.prefetch_project = fail_once
    prefetcher.request("26.1", METADATA)
    assert prefetcher.all_seen() == ["black-26.1", "click", "typing-extensions"]


def test_metadata_with_many_requirements_is_parsed_in_part_and_in_another_thread(prefetcher):
    metadata = b"".join(b"Requires-Dist: project%d\n" % number for number in range(5000))
    assert len(required(metadata)) == prefetch.REQUIREMENTS
    parsed_by = []
    prefetcher.plan = lambda *_arguments: parsed_by.append(threading.current_thread())
    prefetcher.request("26.1", metadata)
    prefetcher.all_seen()
    assert len(parsed_by) == 1
    assert parsed_by != [threading.current_thread()]


def test_only_headers_of_limited_length_are_queued(prefetcher):
    waiting = []
    prefetcher.submit = lambda _pool, _task, headers, _prefetch_file: waiting.append(headers)
    prefetcher.request("26.1", METADATA + bytes(12_000_000))
    assert waiting == [METADATA.partition(b"\n\n")[0]]
    prefetcher.request("25.1", b"Name: black\n" * 1_000_000)
    assert len(waiting) == 1


def test_the_number_of_queued_releases_is_limited(prefetcher):
    is_released = threading.Event()
    planned = []
    prefetcher.plan = lambda headers, _prefetch_file: (is_released.wait(60), planned.append(headers))
    for number in range(2 * prefetch.QUEUED_RELEASES):
        prefetcher.request("1", METADATA, f"project{number}")
    is_released.set()
    prefetcher.all_seen()
    assert len(planned) == prefetch.QUEUED_RELEASES


def test_the_number_of_queued_projects_is_limited(prefetcher):
    is_released = threading.Event()
    for number in range(2 * prefetch.QUEUED_PROJECTS):
        prefetcher.submit(
            prefetcher.projects, lambda name: (is_released.wait(60), prefetcher.seen.append(name)), str(number)
        )
    is_released.set()
    assert len(prefetcher.all_seen()) == prefetch.QUEUED_PROJECTS


def listing(*filenames: str, **fields: str) -> Listing:
    files = [{"filename": name, "url": f"https://files.example/{name}", **fields} for name in filenames]
    return Listing(localize({"files": files}, "root/pypi"))


@pytest.mark.parametrize(
    ("filenames", "expected"),
    [
        (["a-1.0-py3-none-any.whl", "a-2.0-py2.py3-none-any.whl"], "a-2.0-py2.py3-none-any.whl"),
        (["a-1.0-py3-none-any.whl", "a-1.0.tar.gz"], "a-1.0-py3-none-any.whl"),
        (
            ["a-1.0-cp313-cp313-win_amd64.whl", "a-1.0-py3-none-any.whl", "a-2.0rc1-py3-none-any.whl"],
            "a-1.0-py3-none-any.whl",
        ),
        (["a-1.0-py3-none-any.whl", "a-1.0-cp313-cp313-win_amd64.whl"], "a-1.0-py3-none-any.whl"),
        (["a-1.0-py3-none-any.whl", "a-nonsense.whl"], "a-1.0-py3-none-any.whl"),
        (["a-1.0-py3-none-any.whl", "a-2.0-cp313-cp313-win_amd64.whl"], None),
        (["a-1.0.tar.gz"], None),
        ([], None),
    ],
)
def test_the_wheel_that_installers_are_likely_to_choose(filenames, expected):
    path, file = likely_wheel(listing(*filenames), lambda _file: None) or ("", {"filename": None})
    assert file["filename"] == expected
    assert path == f"+e/https_files.example/{expected}" or not expected


def test_a_yanked_wheel_is_not_a_likely_one():
    assert likely_wheel(listing("a-1.0-py3-none-any.whl", yanked="broken"), lambda _file: None) is None


def test_the_size_of_prefetched_metadata_is_limited():
    metadata = PrefetchedMetadata(limit=10)
    for key in ("a", "b", "c"):
        metadata.add(key, b"12345")
    assert [metadata.pop(key) for key in ("a", "b", "c", "b")] == [None, b"12345", b"12345", None]
    metadata.add("large", bytes(11))
    assert metadata.pop("large") is None


@pytest.mark.parametrize(
    ("agent", "is_installer"),
    [('pip/26.0 {"ci":null}', True), ("uv/0.9.1", True), ("poetry/2.0", False), ("curl/8 pip/26", False), ("", False)],
)
def test_installers_are_recognized_by_their_user_agent(agent, is_installer):
    assert bool(INSTALLERS.match(agent)) == is_installer


def test_a_hidden_wheel_is_not_chosen():
    files = listing("a-1.0-py3-none-any.whl", "a-2.0-py3-none-any.whl")
    _path, file = likely_wheel(files, lambda file: "2.0" in file["filename"])
    assert file["filename"] == "a-1.0-py3-none-any.whl"
