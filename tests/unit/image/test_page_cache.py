# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the image's page_cache.py serves a page, and when it requests one from the upstream."""

from __future__ import annotations

import io
import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from devpi_mirror import config, page_cache, page_store
from devpi_mirror.page_cache import PageCache
from devpi_mirror.page_store import tag_of
from devpi_mirror.pages import JSON
from devpi_mirror.upstream import Received, Upstream, UpstreamError
from fake_upstream import serving

FRESHNESS = 300.0
INDEX = "root/pypi"


def page_of(version: str) -> bytes:
    return json.dumps({"meta": {}, "files": [{"filename": f"alpha-{version}.zip", "url": "x"}]}).encode()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A cache with the clock ``now``, and its upstream, which responds with ``status``, ``version`` and ``etag``."""
    monkeypatch.setattr("devpi_mirror.upstream.PAUSE", 0)
    state = SimpleNamespace(status=200, version="1", etag='"1"', now=1e9, type=JSON)

    def answer(handler):
        if state.status == 200 and handler.headers.get("If-None-Match") == state.etag:
            handler.send(304)
        elif state.status == 200:
            handler.send(200, page_of(state.version), Content_Type=state.type, ETag=state.etag, X_PyPI_Last_Serial="7")
        else:
            handler.send(state.status, b"no", Content_Type="text/plain")

    with serving(answer) as server:
        state.server = server
        upstream = Upstream(server.url)
        state.cache = PageCache(upstream, INDEX, tmp_path, FRESHNESS, lambda: state.now)
        yield state
        upstream.close()


def version(served) -> str:
    (file,) = served.page()["files"]
    return file["filename"].removeprefix("alpha-").removesuffix(".zip")


def test_a_fresh_page_is_not_requested_again(mirror):
    first = mirror.cache.get("alpha")
    assert (version(first), first.fresh_for, first.error, first.serial) == ("1", FRESHNESS, "", "7")
    mirror.now += 100
    again = mirror.cache.get("alpha")
    assert (version(again), again.fresh_for) == ("1", FRESHNESS - 100)
    assert (again.tag, again.serial, again.size) == (first.tag, first.serial, len(page_of("1")))
    assert len(mirror.server.requests) == 1


def test_an_outdated_page_is_revalidated(mirror):
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS
    assert version(mirror.cache.get("alpha")) == "1"
    assert mirror.server.requests[1][2]["If-None-Match"] == '"1"'
    mirror.now += 1
    assert mirror.cache.get("alpha").fresh_for == FRESHNESS - 1
    mirror.now += FRESHNESS
    mirror.version, mirror.etag = "2", '"2"'
    assert version(mirror.cache.get("alpha")) == "2"
    assert len(mirror.server.requests) == 3


def test_a_page_from_the_future_is_revalidated(mirror):
    ((path, file),) = mirror.cache.listing("alpha").newest_first()
    mirror.now -= page_cache.CLOCK_TOLERANCE
    assert mirror.cache.get("alpha").fresh_for == FRESHNESS
    assert mirror.cache.find("alpha", path, config.max_stale()) == file
    assert len(mirror.server.requests) == 1
    mirror.now -= 1
    assert mirror.cache.find("alpha", path, config.max_stale()) == file
    assert len(mirror.server.requests) == 2
    mirror.now -= page_cache.CLOCK_TOLERANCE + 1
    assert mirror.cache.get("alpha").fresh_for == FRESHNESS
    assert len(mirror.server.requests) == 3
    # The upstream has confirmed it at a time that is not in the future.
    mirror.now += 1
    assert mirror.cache.get("alpha").fresh_for == FRESHNESS - 1
    assert len(mirror.server.requests) == 3


@pytest.mark.parametrize("etag", ['"\xe9"', '"\x7f"', '"\x01"', '"\t"', f'"{"a" * 1000}"'])
def test_an_etag_that_can_not_be_sent_is_not_stored(etag):
    # Arabic digits, which are decimal.
    response = Received(200, {"ETag": etag, "X-PyPI-Last-Serial": "\u0661"}, io.BytesIO(), 0, "")
    header = page_cache.header_of(response, b"", b"")
    assert (header.etag, header.serial) == ("", "")


def test_a_page_whose_etag_is_not_ascii_is_revalidated(mirror):
    mirror.etag = '"\xe9"'
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS
    assert mirror.cache.get("alpha").error == ""
    assert len(mirror.server.requests) == 2


def test_a_reload_requests_the_page(mirror):
    tag = mirror.cache.get("alpha").tag
    mirror.version, mirror.etag = "2", '"2"'
    assert version(mirror.cache.get("alpha")) == "1"
    reloaded = mirror.cache.get("alpha", reload=True)
    assert version(reloaded) == "2"
    assert reloaded.tag != tag


def test_a_page_survives_a_restart(mirror, tmp_path):
    mirror.cache.get("alpha")
    again = PageCache(mirror.cache.upstream, INDEX, tmp_path, FRESHNESS, lambda: mirror.now)
    assert version(again.get("alpha")) == "1"
    assert len(mirror.server.requests) == 1


@pytest.mark.parametrize(("status", "content_type"), [(500, JSON), (403, JSON), (429, JSON), (200, "text/plain")])
def test_a_failing_upstream_leaves_the_page_stale(mirror, status, content_type):
    mirror.status, mirror.type = status, content_type
    with pytest.raises(UpstreamError):
        mirror.cache.get("alpha")
    mirror.status, mirror.type = 200, JSON
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS
    mirror.status, mirror.type, mirror.etag = status, content_type, '"2"'
    stale = mirror.cache.get("alpha")
    assert (version(stale), stale.fresh_for) == ("1", config.FAILURE_FRESHNESS)
    assert stale.error
    mirror.status, mirror.type, mirror.version = 200, JSON, "2"
    assert version(mirror.cache.get("alpha", reload=True)) == "2"
    mirror.now += FRESHNESS + config.FAILURE_FRESHNESS
    mirror.version, mirror.etag = "3", '"3"'
    assert version(mirror.cache.get("alpha")) == "3"


def test_an_unexpected_failure_leaves_the_page_stale(mirror, monkeypatch):
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS
    mirror.etag = '"2"'

    def fail(*_arguments):
        raise RecursionError("too deep")

    monkeypatch.setattr(page_cache, "parse", fail)
    stale = mirror.cache.get("alpha")
    assert (version(stale), stale.error) == ("1", "could not download the page of alpha: RecursionError: too deep")
    with pytest.raises(UpstreamError, match="RecursionError: too deep"):
        mirror.cache.get("beta")


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_denied_page_is_served_for_as_long_as_it_may_be_stale(mirror, status):
    mirror.cache.get("alpha")
    mirror.status = status
    mirror.now += FRESHNESS + config.max_stale() - 1
    stale = mirror.cache.get("alpha")
    assert (version(stale), stale.is_usable_stale, bool(stale.error)) == ("1", False, True)
    mirror.now += 1
    with pytest.raises(UpstreamError) as caught:
        mirror.cache.get("alpha")
    assert caught.value.status == status
    mirror.status = 200
    assert mirror.cache.get("alpha").error == ""


def test_an_old_page_is_served_if_the_upstream_does_not_respond(mirror):
    mirror.cache.get("alpha")
    mirror.status = 500
    mirror.now += FRESHNESS + 10 * config.max_stale()
    stale = mirror.cache.get("alpha")
    assert (version(stale), stale.is_usable_stale, bool(stale.error)) == ("1", True, True)


@pytest.mark.parametrize("status", [404, 410])
def test_a_project_is_removed_after_two_denials(mirror, status):
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS
    mirror.status = status
    for _client in range(2):
        stale = mirror.cache.get("alpha")
        assert (version(stale), stale.fresh_for, stale.is_usable_stale) == ("1", config.ABSENT_FRESHNESS, False)
    mirror.now += page_cache.CONFIRMED_AFTER
    with pytest.raises(UpstreamError) as caught:
        mirror.cache.get("alpha")
    assert caught.value.status == status
    assert page_store.removed(mirror.cache.store.folder, mirror.now) == [("alpha", mirror.now)]
    mirror.now += config.REMOVED_LISTED
    assert page_store.removed(mirror.cache.store.folder, mirror.now) == []


def test_one_denial_does_not_remove_a_project(mirror):
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS
    mirror.status = 404
    mirror.cache.get("alpha")
    mirror.now += 2
    mirror.status = 200
    assert mirror.cache.get("alpha").error == ""
    mirror.now += FRESHNESS
    mirror.status = 404
    assert version(mirror.cache.get("alpha")) == "1"


def test_a_new_project_is_found_within_ten_seconds(mirror):
    mirror.status = 404
    for _client in range(3):
        with pytest.raises(UpstreamError) as caught:
            mirror.cache.get("alpha")
        assert caught.value.status == 404
    assert len(mirror.server.requests) == 1
    mirror.status = 200
    with pytest.raises(UpstreamError):
        mirror.cache.get("alpha")
    assert version(mirror.cache.get("alpha", reload=True)) == "1"
    mirror.cache.purge("alpha")
    mirror.status = 404
    with pytest.raises(UpstreamError):
        mirror.cache.get("alpha")
    mirror.status = 200
    mirror.now += config.ABSENT_FRESHNESS
    assert version(mirror.cache.get("alpha")) == "1"


def test_clients_share_a_request(mirror):
    arrived, is_released = threading.Event(), threading.Event()
    answer = mirror.server.answer

    def wait(handler):
        arrived.set()
        assert is_released.wait(30)
        answer(handler)

    mirror.server.answer = wait
    futures = [
        mirror.cache.revalidations.start("alpha", lambda: mirror.cache.revalidate("alpha", None))
        for _client in range(5)
    ]
    assert arrived.wait(30)
    is_released.set()
    assert {page_cache.page_of(future.result(30).form())["files"][0]["filename"] for future in futures} == {
        "alpha-1.zip"
    }
    assert len(mirror.server.requests) == 1


def test_a_page_that_another_request_has_stored_is_revalidated(mirror):
    absent = mirror.cache.open("alpha")
    mirror.cache.get("alpha")
    assert (absent, mirror.cache.current("alpha", absent).error) == (None, "")
    assert mirror.server.requests[1][2]["If-None-Match"] == '"1"'
    mirror.status = 429
    assert mirror.cache.current("alpha", absent).error


def test_a_client_that_waits_too_long_gets_the_stale_page(mirror, monkeypatch):
    is_released = threading.Event()
    mirror.cache.get("alpha")
    for name in ("PAGE_TIMEOUT", "REVALIDATION_TIMEOUT"):
        monkeypatch.setattr(config, name, 0)
    answer = mirror.server.answer
    mirror.server.answer = lambda handler: (is_released.wait(30), answer(handler))
    mirror.now += FRESHNESS
    try:
        assert "has not arrived" in mirror.cache.get("alpha").error
        with pytest.raises(UpstreamError, match="has not arrived"):
            mirror.cache.get("beta")
    finally:
        is_released.set()


def test_another_upstream_has_other_pages(mirror, tmp_path):
    mirror.cache.get("alpha")
    with serving(lambda handler: handler.send(200, page_of("9"), Content_Type=JSON)) as other:
        upstream = Upstream(other.url)
        assert version(PageCache(upstream, INDEX, tmp_path, FRESHNESS, lambda: mirror.now).get("alpha")) == "9"
        upstream.close()


def test_an_unreadable_page_is_downloaded_again(mirror):
    mirror.cache.get("alpha")
    for content in (b"", b"{}\n"):
        mirror.cache.store.path("alpha").write_bytes(content)
        assert version(mirror.cache.get("alpha")) == "1"


@pytest.mark.parametrize("part", ["form", "listing"])
def test_a_damaged_page_is_downloaded_again(mirror, part):
    content = content_of(mirror.cache, part)
    path = mirror.cache.store.path("alpha")
    path.write_bytes(path.read_bytes().replace(content, content[:-2] + b"x" + content[-1:]))
    mirror.cache.store.get("alpha").confirm(mirror.now)
    with pytest.raises(UpstreamError, match="reading the page of alpha"):
        content_of(mirror.cache, part)
    assert content_of(mirror.cache, part) == content


def content_of(cache, part: str) -> bytes:
    if part == "form":
        return cache.get("alpha").form()
    listing = cache.listing("alpha")
    return listing.content[listing.start :]


def test_a_file_is_found_although_the_stored_page_is_damaged(mirror):
    ((path, file),) = mirror.cache.listing("alpha").newest_first()
    stored = mirror.cache.store.path("alpha")
    stored.write_bytes(stored.read_bytes()[:-2])
    mirror.cache.store.get("alpha").confirm(mirror.now)
    assert mirror.cache.find("alpha", path, config.max_stale()) == file


def test_a_page_that_can_not_be_stored_is_served(mirror, monkeypatch):
    def fail(*_paths):
        raise OSError(28, "No space left")

    monkeypatch.setattr(page_store.os, "replace", fail)
    assert version(mirror.cache.get("alpha")) == "1"
    (path, file) = next(mirror.cache.listing("alpha").newest_first())
    assert mirror.cache.find("alpha", path, config.max_stale()) == file
    assert list(mirror.cache.store.folder.iterdir()) == []


def test_a_page_that_the_upstream_has_replaced_is_not_fresh_although_the_new_one_can_not_be_stored(mirror, monkeypatch):
    mirror.cache.get("alpha")
    mirror.now += FRESHNESS + 1
    mirror.version, mirror.etag = "2", '"2"'
    monkeypatch.setattr(page_store, "write", lambda *_arguments: False)
    assert [version(mirror.cache.get("alpha")) for _request in range(3)] == ["2"] * 3
    # It remains for an outage.
    mirror.status = 500
    stale = mirror.cache.get("alpha")
    assert (version(stale), bool(stale.error)) == ("1", True)


def test_a_page_is_sent_with_its_own_tag_although_another_has_replaced_it(mirror):
    first = mirror.cache.get("alpha")
    mirror.version, mirror.etag = "2", '"2"'
    second = mirror.cache.get("alpha", reload=True)
    assert [(version(page), page.tag == tag_of(page.form())) for page in (first, second)] == [
        ("1", True),
        ("2", True),
    ]


def test_a_page_that_is_purged_while_the_upstream_confirms_it_is_served(mirror):
    served = mirror.cache.get("alpha")
    mirror.cache.purge("alpha")
    assert version(served) == "1"


def test_errors_are_forgotten_although_the_clock_was_set_back(mirror):
    mirror.status = 404
    with pytest.raises(UpstreamError):
        mirror.cache.get("alpha")
    mirror.now -= 7200
    mirror.status = 200
    assert version(mirror.cache.get("alpha")) == "1"
    mirror.status = 500
    assert mirror.cache.get("alpha", reload=True).error
    mirror.now -= 7200
    mirror.status = 200
    assert mirror.cache.get("alpha").error == ""


def test_no_removal_is_lost(tmp_path):
    store = page_store.PageStore(tmp_path)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: store.note_removal(f"p{number}"), range(200)))
    assert len(page_store.removed(tmp_path, time.time())) == 200


@pytest.mark.parametrize("project", ["", "..", "a/b", "-a", "a_b", "Alpha", "a" + "\n", "a.b", "a" * 201])
def test_only_normalized_names_are_requested(mirror, project):
    with pytest.raises(UpstreamError) as caught:
        mirror.cache.get(project)
    assert caught.value.status == 404
    with pytest.raises(UpstreamError, match="is not the name of a project"):
        mirror.cache.find(project, "+f/a.zip", config.max_stale())
    assert mirror.server.requests == []


def test_a_page_with_the_longest_name_is_stored(mirror):
    mirror.cache.get("a" * 200)
    assert mirror.cache.get("a" * 200).error == ""
    assert len(mirror.server.requests) == 1


@pytest.fixture
def large(monkeypatch, tmp_path):
    """Treat all pages as large."""
    monkeypatch.setattr(page_cache, "LARGE", 10)
    monkeypatch.setattr(config, "TEMPORARY", tmp_path)


@pytest.mark.usefixtures("large")
def test_a_large_page_is_served(mirror):
    assert version(mirror.cache.get("alpha")) == "1"
    assert version(mirror.cache.get("alpha")) == "1"


@pytest.mark.usefixtures("large")
def test_a_large_response_that_is_no_page_is_an_error_and_replaces_no_page(mirror):
    mirror.type = "text/plain"
    with pytest.raises(UpstreamError, match="text/plain"):
        mirror.cache.get("alpha")
    mirror.type = JSON
    assert version(mirror.cache.get("alpha")) == "1"
    mirror.now += FRESHNESS
    mirror.type, mirror.etag = "text/plain", '"2"'
    assert version(mirror.cache.get("alpha")) == "1"


def test_a_file_is_found_on_a_page_that_is_not_fresh(mirror):
    ((path, file),) = mirror.cache.listing("alpha").newest_first()
    mirror.now += FRESHNESS
    mirror.status = 503
    assert mirror.cache.find("alpha", path, config.max_stale()) == file
    assert len(mirror.server.requests) == 1
    # A path that the page does not have can belong to a new release.
    assert mirror.cache.find("alpha", path + ".other", config.max_stale()) is None
    assert len(mirror.server.requests) == 2
    mirror.now += 3600
    mirror.cache.find("alpha", path, config.max_stale())
    assert len(mirror.server.requests) == 3


@pytest.mark.parametrize("status", [200, 403, 500])
def test_the_page_of_a_denied_file_is_requested_again_once_in_a_while(mirror, status):
    ((path, file),) = mirror.cache.listing("alpha").newest_first()
    mirror.status = status
    for requests in (2, 3):
        for _request in range(3):
            assert mirror.cache.find_current("alpha", path) == file
        assert len(mirror.server.requests) == requests
        mirror.now += config.FAILURE_FRESHNESS


def test_searching_a_file_does_not_read_the_page_into_memory(mirror, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "TEMPORARY", tmp_path)
    files = [{"filename": f"alpha-{number}.zip", "url": f"https://files.example/{number}"} for number in range(20_000)]
    content = json.dumps({"files": files}).encode()
    mirror.server.answer = lambda handler: handler.send(200, content, Content_Type=JSON)
    (path, _file) = next(mirror.cache.listing("alpha").newest_first())
    tracemalloc.start()
    try:
        assert mirror.cache.find("alpha", path, config.max_stale())["filename"] == "alpha-19999.zip"
        assert mirror.cache.find("alpha", "+e/missing", config.max_stale()) is None
        _allocated, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(content) / 4


def test_during_an_outage_only_the_first_client_waits(mirror, monkeypatch):
    for name in ("alpha", "beta"):
        mirror.cache.get(name)
    mirror.now += FRESHNESS
    error = UpstreamError("no route to host", is_outage=True)

    def fail(*_arguments):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(mirror.cache.upstream, "receive", fail)
        assert mirror.cache.get("alpha").error == "no route to host"
    # For a moment, this applies to other projects too.
    requests = len(mirror.server.requests)
    assert [mirror.cache.get(name).error for name in ("alpha", "beta")] == ["no route to host"] * 2
    assert len(mirror.server.requests) == requests
    mirror.now += config.FAILURE_FRESHNESS
    assert mirror.cache.get("beta").error == ""


def test_a_failing_page_does_not_affect_other_projects(mirror):
    for name in ("alpha", "beta"):
        mirror.cache.get(name)
    mirror.now += FRESHNESS
    mirror.status = 403
    assert mirror.cache.get("alpha").error
    mirror.status = 200
    assert mirror.cache.get("beta").error == ""
