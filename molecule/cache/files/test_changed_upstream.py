# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror's responses after ``devpi_server_upstream_url`` has changed: nothing that only the previous upstream lists.

The first test changes the upstream, and the mirror then has the new one.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from harness import (
    JSON,
    PUBLIC,
    UPSTREAM_ADDRESS,
    UPSTREAM_PORT,
    Answer,
    Mirror,
    publish_upstream,
    send,
    set_upstream_mode,
    upstream_requests,
)
from plays import succeed

CHANGED = {
    "devpi_server_upstream_url": f"http://{UPSTREAM_ADDRESS}:{UPSTREAM_PORT}/other/",
    # The pages of the previous upstream would still be fresh.
    "devpi_server_freshness": 3600,
    "devpi_server_prewarm": [],
}
# The first project is at both upstreams, with fewer releases and a lower serial at the new one. The others are at the previous
# one only.
BOTH, PREVIOUS, OFFLINE = "changedboth", "changedprevious", "changedoffline"
PRIVATE = "/alice/private/+simple/"
FORMS = pytest.mark.parametrize("accept", [JSON, "text/html"], ids=["json", "html"])
INDEXES = pytest.mark.parametrize("index", [PUBLIC, PRIVATE], ids=["public", "private"])
mirror = Mirror()


def page(index: str, name: str, accept: str = JSON) -> Answer:
    return mirror.ask(f"{index}{name}/", Accept=accept)


def wheel(name: str, version: str) -> str:
    return f"{name}-{version}-py3-none-any.whl"


@pytest.fixture(scope="module", autouse=True)
def previous() -> dict[str, dict[str, Any]]:
    """Make the mirror cache the projects of an upstream, and change the upstream. Returns the previous files by name."""
    set_upstream_mode("normal")
    mirror.create_user("alice")
    for name in (BOTH, PREVIOUS, OFFLINE):
        assert send(UPSTREAM_PORT, f"/+serial/{name}/1000", "POST").status == 200
        for version in ("1.0", "2.0", "3.0"):
            publish_upstream(name, version)
    for name in ("alpha", BOTH):
        assert send(UPSTREAM_PORT, f"/+other/{name}/1.0", "POST").status == 200
    for name in (BOTH, PREVIOUS, OFFLINE):
        for accept in (JSON, "text/html"):
            for index in (PUBLIC, PRIVATE):
                answer = page(index, name, accept)
                assert (answer.status, answer.headers["x-pypi-last-serial"]) == (200, "1000"), answer
                assert wheel(name, "2.0") in answer.text
    files = {**mirror.files(BOTH), **mirror.files(PREVIOUS)}
    for path in (
        files[wheel(BOTH, "1.0")]["path"] + ".metadata",
        files[wheel(BOTH, "3.0")]["path"],
        files[wheel(PREVIOUS, "3.0")]["path"],
    ):
        assert mirror.ask(path).status == 200

    succeed("devpi.mirror.site", variables=CHANGED)
    return files


@INDEXES
@FORMS
def test_no_page_of_the_previous_upstream_is_served_while_the_new_one_fails(accept: str, index: str) -> None:
    set_upstream_mode("failing")
    answer = page(index, OFFLINE, accept)
    assert answer.status == 503, answer
    assert "the upstream responded with status 503" in answer.text


@INDEXES
@FORMS
def test_a_page_is_that_of_the_new_upstream(accept: str, index: str) -> None:
    answer = page(index, BOTH, accept)
    assert (answer.status, answer.headers["x-pypi-last-serial"]) == (200, "1")
    assert wheel(BOTH, "1.0") in answer.text
    assert not [version for version in ("2.0", "3.0") if version in answer.text], answer.text


@INDEXES
@FORMS
def test_a_project_of_the_previous_upstream_alone_does_not_exist(accept: str, index: str) -> None:
    assert page(index, PREVIOUS, accept).status == 404


def test_devpi_lists_the_releases_of_the_new_upstream() -> None:
    listed = mirror.call("GET", f"/root/pypi/{BOTH}", None)
    assert list(listed) == ["1.0"]


@pytest.mark.parametrize("suffix", ["", ".metadata"])
@pytest.mark.parametrize("name", [BOTH, PREVIOUS])
def test_a_file_that_only_the_previous_upstream_lists_is_not_downloaded(
    name: str, suffix: str, previous: dict[str, dict[str, Any]]
) -> None:
    assert mirror.ask(previous[wheel(name, "2.0")]["path"] + suffix).status == 404
    assert not [path for path in upstream_requests() if wheel(name, "2.0") in path]


@pytest.mark.parametrize("name", [BOTH, PREVIOUS])
def test_a_file_that_was_downloaded_keeps_its_link(name: str, previous: dict[str, dict[str, Any]]) -> None:
    """Lock files have such links. As each has the hash of its file, it does not matter which upstream has sent it."""
    file = previous[wheel(name, "3.0")]
    answer = mirror.ask(file["path"])
    assert answer.headers["x-cached"] == "HIT"
    assert hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]


def test_core_metadata_is_that_of_the_new_upstream(previous: dict[str, dict[str, Any]]) -> None:
    """Its path has the hash of the wheel, not its own."""
    file = mirror.files(BOTH)[wheel(BOTH, "1.0")]
    assert file["path"] == previous[wheel(BOTH, "1.0")]["path"]
    assert "Summary: other\n" in mirror.ask(file["path"] + ".metadata").text
