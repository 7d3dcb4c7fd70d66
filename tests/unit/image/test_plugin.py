# SPDX-License-Identifier: GPL-3.0-or-later
"""The responses of the image's plugin in a running devpi-server, with an upstream."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request

import pytest
from devpi_mirror import compat, config
from devpi_mirror.pages import JSON
from devpi_servers import OPENER, file_url, page, page_url, request
from fake_index import METADATA, WHEEL
from fake_upstream import Handler, send_slowly, serving


def test_a_page_has_all_fields_of_the_upstreams_page_and_other_links(mirror, index):
    index.fields["alpha"] = {"size": len(WHEEL), "upload-time": "2026-01-01T00:00:00Z", "of-the-future": [1]}
    response = page(mirror, "alpha")
    assert response.status == 200
    assert response.headers["Content-Type"] == JSON
    found = json.loads(response.body)
    (file,) = found.pop("files")
    assert found == {"meta": {"api-version": "1.4"}, "name": "alpha"}
    assert file.pop("url").startswith("../../../../root/pypi/-f/")
    assert file == {
        "filename": "alpha-1.0-py3-none-any.whl",
        "hashes": {"sha256": hashlib.sha256(WHEEL).hexdigest()},
        "core-metadata": True,
        **index.fields["alpha"],
    }
    assert response.headers["X-PyPI-Last-Serial"] == "3"
    assert "stale-while-revalidate=3600" in response.headers["Cache-Control"]
    assert page(mirror, "alpha", If_None_Match=response.headers["ETag"]).status == 304


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (JSON, JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        (f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01", JSON),
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
        (f"text/html, {JSON};q=0.5", "text/html; charset=utf-8"),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html"),
        ("image/png", "text/html; charset=utf-8"),
    ],
)
def test_a_page_has_the_form_that_the_client_prefers(mirror, accept, content_type):
    response = request(page_url(mirror, "alpha"), Accept=accept)
    assert (response.status, response.headers["Content-Type"]) == (200, content_type)


@pytest.mark.parametrize("accept", ["text/html", JSON])
def test_a_page_is_compressed_for_clients_that_accept_it(mirror, accept):
    plain = request(page_url(mirror, "alpha"), Accept=accept)
    compressed = request(page_url(mirror, "alpha"), Accept=accept, Accept_Encoding="gzip")
    assert plain.headers["Content-Encoding"] is None
    assert (compressed.status, compressed.headers["Content-Encoding"]) == (200, "gzip")
    assert compressed.headers["Content-Length"] == str(len(compressed.body))
    assert gzip.decompress(compressed.body) == plain.body


def test_a_page_that_expands_to_too_much_is_an_error_of_the_upstream(mirror, index):
    bomb = gzip.compress(bytes(100_000_000), 1)
    index.answers["/simple/bomb/"] = lambda handler: handler.send(200, bomb, Content_Type=JSON, Content_Encoding="gzip")
    response = page(mirror, "bomb")
    assert (response.status, response.headers["Retry-After"]) == (503, "10")
    assert b"more than 64,000,000 bytes" in response.body


@pytest.mark.parametrize(
    ("path", "location"),
    [("Alpha_Beta.x/", "alpha-beta-x"), ("Alpha.Beta", "alpha-beta"), ("alpha", "alpha")],
)
def test_names_that_are_not_normalized_are_redirected(mirror, path, location):
    response = request(f"{mirror.url}/root/pypi/+simple/{path}")
    assert (response.status, response.headers["Location"]) == (302, page_url(mirror, location))


def test_no_entry_is_stored_for_a_link(mirror):
    page(mirror, "unwanted")
    database = mirror.folder / "server" / ".sqlite"
    assert all(b"unwanted-1.0" not in path.read_bytes() for path in database.parent.glob(".sqlite*"))


def test_a_file_is_downloaded_once_and_stored(mirror, upstream):
    url = file_url(mirror, "beta")
    head = request(url, "HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(WHEEL)))
    for _client in range(2):
        response = request(url)
        assert (response.status, response.body) == (200, WHEEL)
    path = url.partition("/root/pypi/")[2].replace("-f/", "+f/")
    assert (mirror.folder / "server" / "+files" / "root/pypi" / path).read_bytes() == WHEEL
    downloads = [entry for entry in upstream.requests if entry[:2] == ("GET", "/files/beta-1.0-py3-none-any.whl")]
    assert len(downloads) == 1
    deadline = time.monotonic() + 30
    while list((mirror.folder / "tmp").iterdir()):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("hashes", [{}, {"sha256": hashlib.sha256(WHEEL).hexdigest()}])
def test_a_file_with_unusual_characters_in_its_name_is_served(mirror, index, hashes):
    project = f"unusual{len(hashes)}"
    index.fields[project] = {"filename": f"{project}-1.0\xa0é\u200d\u3000.tar.gz", "hashes": hashes}
    url = file_url(mirror, project)
    # The second time, it is stored.
    for _attempt in range(2):
        response = request(url)
        assert (response.status, response.body) == (200, WHEEL)


@pytest.mark.parametrize("size", [-1, True, False, 1.5, "1", None])
def test_a_size_that_no_file_has_is_ignored(mirror, index, size):
    project = f"size{type(size).__name__.lower()}{size}".replace("-", "m").replace(".", "p").lower()
    index.fields[project] = {"size": size}
    url = file_url(mirror, project)
    assert request(url, "HEAD").headers["Content-Length"] == str(len(WHEEL))
    assert request(url).body == WHEEL


def mirror_with(plugin, file):
    """Return a mirror index whose cached page has one file."""
    found = plugin.Mirror("root/pypi", file["url"], None)
    found.pages.cache.find = lambda *_arguments: file
    return found


def test_a_file_that_another_request_has_stored_is_sent(load, tmp_path, monkeypatch):
    # The devpi of the other tests is another process.
    monkeypatch.setattr(load("patches"), "apply", lambda: None)
    plugin = load("plugin")
    monkeypatch.setattr(load("config"), "FILES", tmp_path)
    path = "+f/012/3456789abcdef/late-1.0-py3-none-any.whl"
    stored = tmp_path / "root/pypi" / path
    stored.parent.mkdir(parents=True)
    stored.write_bytes(WHEEL)
    service = plugin.Service(None)
    found = mirror_with(plugin, {"filename": stored.name, "url": "http://127.0.0.1:9/late"})
    response = service.respond_with_download(SimpleNamespace(method="GET", headers={}), found, path)
    assert (response.status_code, response.body, service.downloads.count) == (200, WHEEL, 0)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("suffix", ["", ".metadata"])
def test_an_outdated_link_is_replaced_by_the_current_one(mirror, index, status, suffix):
    """Those of object stores expire, and files are moved."""
    project = f"moved{status}{len(suffix)}"
    index.fields[project] = {"url": f"/{project}/old?signature=1"}
    # The upstream has no core metadata.
    for path in ("old?signature=1", "old?signature=1.metadata", "new?signature=2.metadata"):
        index.status[f"/{project}/{path}"] = status
    url = file_url(mirror, project)
    index.fields[project] = {"url": f"/{project}/new?signature=2"}
    assert request(url + suffix).body == (METADATA if suffix else WHEEL)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("suffix", ["", ".metadata"])
def test_a_denied_file_whose_link_is_current_has_the_status_of_the_upstream(mirror, index, upstream, status, suffix):
    project = f"denied{status}{len(suffix)}"
    index.fields[project] = {"url": f"/{project}/file"}
    for path in ("file", "file.metadata"):
        index.status[f"/{project}/{path}"] = status
    url = file_url(mirror, project)
    for _request in range(3):
        denied = request(url + suffix)
        assert (denied.status, f"the upstream responded with status {status}".encode() in denied.body) == (status, True)
    # The page is requested once more for all of these requests.
    assert upstream.paths().count(f"/simple/{project}/") == 2


def test_the_entry_of_a_file_has_the_link_that_it_was_downloaded_from(mirror, index, upstream):
    index.fields["relinked"] = {"url": "/relinked/old"}
    index.status["/relinked/old"] = 404
    url = file_url(mirror, "relinked")
    index.fields["relinked"] = {"url": "/relinked/new"}
    assert request(url).body == WHEEL
    entry = json.loads(request(url, Accept="application/json").body)["result"]
    assert entry["url"] == urljoin(upstream.url, "/relinked/new")


def test_a_head_request_follows_a_link_that_has_moved(mirror, index):
    index.fields["headmoved"] = {"url": "/headmoved/old"}
    index.status["/headmoved/old"] = 403
    url = file_url(mirror, "headmoved")
    index.fields["headmoved"] = {"url": "/headmoved/new"}
    response = request(url, "HEAD")
    assert (response.status, response.headers["Content-Length"]) == (200, str(len(WHEEL)))


def await_requests(upstream, *paths: str) -> None:
    deadline = time.monotonic() + 30
    while not set(paths) <= set(upstream.paths()):
        assert time.monotonic() < deadline, upstream.paths()
        time.sleep(0.05)


def test_corrected_core_metadata_replaces_the_cached_one_of_a_client(mirror, index, upstream):
    project = "corrected"
    link = f"/files/{project}.metadata"
    contents = [METADATA, METADATA + b"Requires-Dist: forgotten\n"]
    for content in contents:
        digest = {"sha256": hashlib.sha256(content).hexdigest()}
        index.fields[project] = {"url": f"/files/{project}", "core-metadata": digest}
        index.answers[link] = lambda handler, content=content: handler.send(200, content)
        page(mirror, project, Cache_Control="no-cache")
        url = file_url(mirror, project) + ".metadata"
        response = request(url, If_None_Match=f'"{hashlib.sha256(contents[0]).hexdigest()}"')
        if content is contents[0]:
            assert (response.status, upstream.paths().count(link)) == (304, 0)
            response = request(url)
        assert (response.status, response.body) == (200, content)
        assert response.headers["Cache-Control"] == "max-age=86400, stale-while-revalidate=31536000"
        assert request(url, If_None_Match=response.headers["ETag"]).status == 304
    assert upstream.paths().count(link) == 2


def test_core_metadata_without_a_listed_hash_does_not_change(mirror, upstream):
    url = file_url(mirror, "unlisted") + ".metadata"
    first = request(url)
    requests = len(upstream.requests)
    assert request(url, If_None_Match=first.headers["ETag"]).status == 304
    assert len(upstream.requests) == requests


def test_an_html_page_is_not_stored_as_a_file_without_a_hash(mirror, index):
    index.fields["portal"] = {"hashes": {}}
    path = "/files/portal-1.0-py3-none-any.whl"
    index.answers[path] = lambda handler: handler.send(200, b"<h1>Log in</h1>", Content_Type="text/html; charset=utf-8")
    url = file_url(mirror, "portal")
    response = request(url)
    assert (response.status, b"an HTML page instead of a file" in response.body) == (503, True)
    del index.answers[path]
    assert request(url).body == WHEEL


def test_an_evicted_file_is_downloaded_again_and_stored(mirror, upstream):
    url = file_url(mirror, "evicted")
    stored = mirror.folder / "server" / "+files" / url.removeprefix(f"{mirror.url}/").replace("/-f/", "/+f/")
    for downloads in (1, 2):
        for _client in range(2):
            response = request(url)
            assert (response.status, response.body) == (200, WHEEL)
        assert stored.read_bytes() == WHEEL
        assert upstream.paths().count("/files/evicted-1.0-py3-none-any.whl") == downloads
        stored.unlink()


@pytest.mark.parametrize(
    "hashes", [{}, {"md5": hashlib.md5(WHEEL, usedforsecurity=False).hexdigest()}, {"future": "0" * 64}]
)
def test_devpi_has_an_entry_of_a_stored_file(mirror, upstream, index, hashes):
    project = f"stored-{next(iter(hashes), 'none')}"
    # The last part of the URL is not the name of the file.
    link = f"{upstream.url.replace('//', '//user:secret@').replace('/simple/', '/files/get')}?signature=secret#part"
    index.fields[project] = {"filename": f"{project}-1.0.tar.gz", "url": link, "hashes": hashes}
    url = file_url(mirror, project)
    assert request(url).body == WHEEL
    response = request(url)
    assert (response.body, response.headers["Content-Type"]) == (WHEEL, "application/x-tar")
    assert response.headers["Last-Modified"]
    entry = json.loads(request(url, Accept="application/json").body)["result"]
    assert (entry["project"], entry["version"]) == (project, "1.0")
    assert entry["url"] == urljoin(upstream.url, "/files/get")
    assert entry["hashes"]["sha256"] == hashlib.sha256(WHEEL).hexdigest()


def test_devpi_finds_stored_files_consistent(mirror):
    assert request(file_url(mirror, "consistent")).body == WHEEL
    result = subprocess.run(
        [str(Path(sys.executable).with_name("devpi-fsck")), "--serverdir", str(mirror.folder / "server")],
        env=mirror.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "Finished with a total of" in output
    assert "consistent-1.0" not in output


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("bytes=5-9", 5, 10), ("bytes=5-", 5, None), ("bytes=-7", len(WHEEL) - 7, None)]
)
def test_a_part_of_a_new_file_is_sent(mirror, wanted, start, end):
    project = f"part{start}to{end or 'end'}"
    response = request(file_url(mirror, project), Range=wanted)
    assert (response.status, response.body) == (206, WHEEL[start:end])
    last = len(WHEEL) if end is None else end
    assert response.headers["Content-Range"] == f"bytes {start}-{last - 1}/{len(WHEEL)}"


def test_the_whole_file_is_sent_if_a_part_does_not_arrive_soon(load, tmp_path, monkeypatch):
    monkeypatch.setattr(load("patches"), "apply", lambda: None)
    plugin = load("plugin")
    monkeypatch.setattr(load("config"), "FILES", tmp_path)
    monkeypatch.setattr(load("downloads"), "free_bytes", lambda _folder: 10**12)
    monkeypatch.setattr(plugin, "store_file", lambda *_arguments: None)
    monkeypatch.setattr(load("config"), "PART_TIMEOUT", 0.01)
    is_released = threading.Event()
    with serving(send_slowly(WHEEL, 10, is_released)) as server:
        service = plugin.Service(None)
        service.downloads.folder = tmp_path / "tmp"
        found = mirror_with(plugin, {"filename": "late-1.0-py3-none-any.whl", "url": f"{server.url}late"})
        requested = SimpleNamespace(method="GET", headers={"Range": "bytes=20-30"})
        try:
            response = service.respond_with_download(requested, found, "+f/0/1/late-1.0-py3-none-any.whl")
            assert (response.status_code, response.content_length) == (200, len(WHEEL))
        finally:
            is_released.set()
        assert b"".join(response.app_iter) == WHEEL
        service.downloads.pool.shutdown()
        found.pages.cache.upstream.close()


@pytest.mark.parametrize("wanted", ["bytes=-0", "bytes=-00"])
def test_a_part_without_a_byte_is_ignored(mirror, wanted):
    response = request(file_url(mirror, f"nobyte{len(wanted)}"), Range=wanted)
    assert (response.status, response.body, response.headers["Content-Range"]) == (200, WHEEL, None)


def test_core_metadata_is_served(mirror, index):
    for project, fields in (("alpha", {}), ("alpha.two", {"core-metadata": True})):
        index.fields[project] = {"filename": "alpha-1.0-py3-none-any.whl", **fields}
    response = request(file_url(mirror, "alpha") + ".metadata")
    assert (response.status, response.body) == (200, METADATA)


def test_the_next_requests_of_an_installer_are_prefetched(mirror, upstream, index):
    index.fields["required"] = {"core-metadata": True}
    request(file_url(mirror, "alpha") + ".metadata", User_Agent="pip/26.0")
    await_requests(
        upstream,
        "/simple/required/",
        "/files/alpha-1.0-py3-none-any.whl",
        "/files/required-1.0-py3-none-any.whl.metadata",
    )


def test_a_prefetched_file_follows_a_link_that_has_moved(mirror, index, upstream):
    index.fields["movedprefetch"] = {"url": "/movedprefetch/old", "core-metadata": True}
    index.status["/movedprefetch/old"] = 403
    url = file_url(mirror, "movedprefetch")
    index.fields["movedprefetch"] = {"url": "/movedprefetch/new"}
    assert request(url + ".metadata", User_Agent="pip/26.0").status == 200
    await_requests(upstream, "/movedprefetch/new")


@pytest.mark.parametrize(
    ("status", "expected"), [(401, 401), (403, 403), (404, 404), (410, 410), (429, 429), (500, 503)]
)
def test_errors_of_the_upstream_keep_their_meaning(mirror, index, status, expected):
    project = f"error{status}"
    index.status[f"/simple/{project}/"] = status
    response = page(mirror, project)
    assert response.status == expected
    assert f"responded with status {status} ".encode() in response.body
    assert bool(response.headers["Retry-After"]) == (expected == 503)


def test_errors_of_files_keep_their_meaning(mirror, index):
    url = file_url(mirror, "gone")
    index.status["/files/gone-1.0-py3-none-any.whl"] = 410
    assert request(url).status == 410
    assert request(url.replace("gone-1.0", "gone-2.0")).status == 404


def test_a_part_that_can_not_be_sent_is_an_error_with_the_reason(mirror, index):
    url = file_url(mirror, "damaged")
    index.answers["/files/damaged-1.0-py3-none-any.whl"] = lambda handler: handler.send(200, bytes(len(WHEEL)))
    response = request(url, Range=f"bytes={len(WHEEL) - 1}-")
    assert response.status == 503
    assert response.headers["Retry-After"]
    assert b"the file has the sha256 " in response.body


def test_a_file_without_room_on_the_disk_is_refused(mirror, index):
    def promise(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**15))
        handler.end_headers()
        handler.close_connection = True

    url = file_url(mirror, "huge")
    index.answers["/files/huge-1.0-py3-none-any.whl"] = promise
    response = request(url)
    assert response.status == 507
    assert b"has no room for " in response.body
    assert b"huge-1.0-py3-none-any.whl" in response.body


def listed(private: str, project: str) -> dict[str, str]:
    url = f"{private}{project}/"
    page = json.loads(request(url, Accept=JSON).body)
    return {file["filename"]: urljoin(url, file["url"]) for file in page["files"]}


def test_a_private_index_has_the_pages_of_its_base(mirror, private, index):
    index.fields["alpha"] = {"upload-time": "2026-01-01T00:00:00Z"}
    inherited = request(f"{private}alpha/", Accept=JSON)
    assert (inherited.status, inherited.body) == (200, page(mirror, "alpha").body)
    assert list(listed(private, "alpha")) == ["alpha-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("project", ["alpha", "own", "shared", "headnone", "head.redirected", "-"])
@pytest.mark.parametrize("accept", ["text/html", JSON])
def test_a_page_of_a_private_index_has_the_same_headers_without_a_body(private, index, project, accept):
    index.status["/simple/headnone/"] = 404
    get, head = (
        request(f"{private}{project}/", method, Accept=accept, Accept_Encoding="gzip") for method in ("GET", "HEAD")
    )
    assert (head.status, head.body) == (get.status, b"")
    for name in ("Content-Type", "Location", "ETag"):
        assert head.headers[name] == get.headers[name]


def test_an_inherited_page_has_all_fields(private, index):
    fields = {"requires-python": ">=3.8", "yanked": "broken", "size": len(WHEEL), "of-the-future": [1]}
    index.fields["inherited"] = {**fields, "core-metadata": {"sha256": "0" * 64}}
    (file,) = json.loads(request(f"{private}inherited/", Accept=JSON).body)["files"]
    assert file.pop("url").startswith("../../../../root/pypi/-f/")
    name, digest = "inherited-1.0-py3-none-any.whl", hashlib.sha256(WHEEL).hexdigest()
    assert file == {"filename": name, "hashes": {"sha256": digest}, **index.fields["inherited"]}


@pytest.mark.parametrize(
    ("project", "filename"), [("own", "own-9.0-py3-none-any.whl"), ("own-two", "Own.Two-9.0-py3-none-any.whl")]
)
def test_a_public_project_adds_nothing_to_a_private_one(mirror, private, project, filename):
    # The mirror index has the project, too.
    assert page(mirror, project).status == 200
    assert list(listed(private, project)) == [filename]
    assert b"-1.0-" not in request(f"{private}{project}/", Accept="text/html").body


@pytest.mark.usefixtures("private")
def test_a_public_project_adds_nothing_to_an_inherited_one(mirror):
    settings = {"bases": ["alice/private", "root/pypi"]}
    created = request(f"{mirror.url}/alice/derived", "PUT", settings, X_Devpi_Auth=mirror.auth)
    assert created.status == 200, created.body
    derived = f"{mirror.url}/alice/derived/+simple/"
    assert list(listed(derived, "own")) == ["own-9.0-py3-none-any.whl"]
    assert list(listed(derived, "alpha")) == ["alpha-1.0-py3-none-any.whl"]


@pytest.fixture(scope="module")
def other(mirror, upstream, index):
    """A second mirror index, whose upstream has one project, and an index that inherits from both."""
    name = "second-1.0-py3-none-any.whl"
    file = {"filename": name, "url": f"/files/{name}", "hashes": {"sha256": hashlib.sha256(WHEEL).hexdigest()}}
    content = json.dumps({"meta": {"api-version": "1.0"}, "files": [file]}).encode()
    index.answers["/other/second/"] = lambda handler: handler.send(200, content, Content_Type=JSON)
    index.status["/simple/second/"] = 404
    url = {"mirror_no_project_list": True, "mirror_url": urljoin(upstream.url, "/other/")}
    mirror_type = "mirror" if compat.MAJOR < 7 else "remote"
    for path, settings in (
        ("other/mirror", {"type": mirror_type, **compat.renamed(url)}),
        ("other/both", {"bases": ["root/pypi", "other/mirror"], "volatile": True}),
    ):
        user = path.partition("/")[0]
        request(f"{mirror.url}/{user}", "PUT", {"password": "x" * 20}, X_Devpi_Auth=mirror.auth)
        created = request(f"{mirror.url}/{path}", "PUT", settings, X_Devpi_Auth=mirror.auth)
        assert created.status == 200, created.body
    return mirror.url


@pytest.mark.parametrize("name", ["other/mirror", "other/both"])
def test_files_of_a_second_mirror_index_are_served(other, name):
    (url,) = listed(f"{other}/{name}/+simple/", "second").values()
    assert url.startswith(f"{other}/other/mirror/-f/")
    # The second time, it is stored.
    for _attempt in range(2):
        assert request(url).body == WHEEL
    assert request(f"{url}.metadata").body == METADATA


@pytest.fixture
def merged(private, other, request):
    """The URL of a page that has files of two indexes."""
    if request.param == "own":
        return f"{private}shared/"
    return f"{other}/other/both/+simple/merged/"


@pytest.fixture
def second_page(index):
    """The page of a project in the second mirror index, which differs from the first one's."""
    page = {"meta": {"api-version": "1.0"}, "versions": ["2.0"], "files": [{"filename": "merged-2.0.zip", "url": "/f"}]}
    index.answers["/other/merged/"] = lambda handler: handler.send(200, json.dumps(page).encode(), Content_Type=JSON)
    return page


@pytest.mark.parametrize("accept", ["text/html", JSON])
@pytest.mark.parametrize("merged", ["own", "mirrors"], indirect=True)
@pytest.mark.usefixtures("second_page")
def test_a_merged_page_is_revalidated(merged, accept):
    response = request(merged, Accept=accept)
    tag = response.headers["ETag"]
    again = request(merged, Accept=accept, If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert again.headers["Cache-Control"]
    other_form = request(merged, Accept=JSON if accept == "text/html" else "text/html", If_None_Match=tag)
    assert other_form.status == 200
    assert response.headers["Warning"] is None


@pytest.mark.usefixtures("second_page")
def test_a_merged_page_is_fresh_as_long_as_its_sources(private, other):
    def max_age(url):
        return int(re.match("max-age=([0-9]+)", request(url, Accept=JSON).headers["Cache-Control"])[1])

    assert 250 < max_age(f"{other}/other/both/+simple/merged/") <= 300
    # One of the mirror indexes does not have the project.
    assert max_age(f"{other}/other/both/+simple/second/") == 8
    # An upload is visible at once.
    assert request(f"{private}shared/", Accept=JSON).headers["Cache-Control"] == "max-age=0"


@pytest.mark.parametrize("merged", ["own", "mirrors"], indirect=True)
@pytest.mark.usefixtures("second_page")
def test_a_merged_page_has_the_same_files_in_both_forms(merged):
    page = json.loads(gzip.decompress(request(merged, Accept=JSON, Accept_Encoding="gzip").body))
    html = request(merged, Accept="text/html").body.decode()
    assert re.findall(">([^<]+)</a>", html) == [file["filename"] for file in page["files"]]
    assert len(page["files"]) == 2


@pytest.mark.usefixtures("second_page")
def test_a_merged_page_lists_the_versions_of_its_files(private, other, index):
    def versions(url):
        return json.loads(request(url, Accept=JSON, Cache_Control="no-cache").body).get("versions")

    assert versions(f"{other}/other/both/+simple/merged/") == ["2.0"]
    assert versions(f"{private}shared/") is None
    listed_page = {"files": [], "versions": ["1.0"], "project-status": {"status": "quarantined"}}
    content = json.dumps(listed_page).encode()
    index.answers["/simple/shared/"] = lambda handler: handler.send(200, content, Content_Type=JSON)
    try:
        assert versions(f"{private}shared/") == ["9.0", "1.0"]
    finally:
        del index.answers["/simple/shared/"]
        versions(f"{private}shared/")


@pytest.mark.parametrize("merged", ["own", "mirrors"], indirect=True)
@pytest.mark.usefixtures("second_page")
def test_a_merged_page_of_a_stale_page_has_a_warning(mirror, merged, index):
    project = merged.rstrip("/").rpartition("/")[2]
    tag = request(merged, Accept=JSON).headers["ETag"]
    index.status[f"/simple/{project}/"] = 429
    try:
        # The first one waits for the upstream. The other one does not.
        for no_cache in ({"Cache_Control": "no-cache"}, {"Cache_Control": "no-cache", "If_None_Match": tag}):
            response = request(merged, Accept=JSON, **no_cache)
            assert (response.status, response.headers["Warning"]) == (200, '110 - "Response is Stale"')
    finally:
        del index.status[f"/simple/{project}/"]
    index_name = "/".join(merged.split("/")[3:5])
    log = mirror.log.read_text()
    assert f"The page of {project} in {index_name} is stale: could not download " in log
    assert "the upstream responded with status 429 " in log
    assert "(root/pypi)" in log


def test_files_of_a_failing_page_have_the_status_of_the_page(mirror, index, upstream):
    index.status["/simple/limited/"] = 429
    digest = hashlib.sha256(WHEEL).hexdigest()
    for name in ("limited-1.0-py3-none-any.whl", "limited-1.0.tar.gz"):
        response = request(f"{mirror.url}/root/pypi/+f/{digest[:3]}/{digest[3:16]}/{name}")
        assert response.status == 429, response.body
    assert {path for path in upstream.paths() if "limited" in path} == {"/simple/limited/"}


def test_the_number_of_projects_that_are_searched_for_a_file_is_limited(mirror, upstream):
    name = "-".join(["searched"] * 20) + ".tar.gz"
    assert request(f"{mirror.url}/root/pypi/+f/012/3456789abcdef/{name}").status == 404
    assert 0 < len([path for path in upstream.paths() if "searched" in path]) <= 4


def test_an_uploaded_file_is_served_with_its_metadata(private):
    (url,) = listed(private, "own").values()
    assert request(url).body == WHEEL
    assert request(f"{url}.metadata").body == METADATA
    (file,) = json.loads(request(f"{private}own/", Accept=JSON).body)["files"]
    assert file["hashes"] == {"sha256": hashlib.sha256(WHEEL).hexdigest()}
    assert file["core-metadata"]


@pytest.mark.parametrize("name", ["root/pypi", "alice/private"])
@pytest.mark.usefixtures("private")
def test_devpi_lists_the_versions_of_a_public_project(mirror, name):
    response = request(f"{mirror.url}/{name}/versions", Accept="application/json")
    assert response.status == 200, response.body
    found = json.loads(response.body)["result"]
    assert list(found) == ["1.0"]
    (link,) = found["1.0"]["+links"]
    assert link["href"].partition("#")[0] == file_url(mirror, "versions").replace("/-f/", "/+f/")


@pytest.mark.parametrize("name", ["root/pypi", "alice/private"])
@pytest.mark.usefixtures("private")
def test_devpi_tolerates_files_without_a_version(mirror, index, name):
    index.others["odd"] = ["odd.deb", "odd-1.0.whl", "other-1.0-py3-none-any.whl"]
    response = request(f"{mirror.url}/{name}/odd", Accept="application/json")
    assert response.status == 200, response.body
    assert "1.0" in json.loads(response.body)["result"]


def test_a_public_project_adds_its_files_if_it_is_allowed(private):
    files = listed(private, "shared")
    assert list(files) == ["shared-9.0-py3-none-any.whl", "shared-1.0-py3-none-any.whl"]
    for url in files.values():
        assert request(url).body == WHEEL
        assert request(url.replace("/-f/", "/+f/")).body == WHEEL
    assert b"shared-9.0" in request(f"{private}shared/", Accept="text/html").body


def test_an_unknown_project_is_not_found(private, index):
    index.status["/simple/nothing/"] = 404
    assert request(f"{private}nothing/", Accept=JSON).status == 404


@pytest.mark.usefixtures("private")
def test_changes_need_a_user(mirror, upstream):
    body = {"name": "alpha", "version": "1.0", "posturl": f"{upstream.url}pushed", "username": "a", "password": "b"}
    for path in ("/root/pypi", "/alice/private/", "/root/pypi/+e/http_a/b-1.0.zip"):
        response = request(f"{mirror.url}{path}", "POST", body, Content_Type="application/json")
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="pypi"'), path
    assert "/simple/pushed" not in upstream.paths()


def test_a_request_that_needs_no_user_has_a_size_limit(mirror):
    body = {"user": "a" * 100_000}
    outside = {"X-Outside-Url": "http://localhost/outside"}
    for method, path, headers in (
        ("POST", "/+login", {}),
        ("PATCH", "/root", {}),
        ("POST", "/outside/+login", outside),
    ):
        response = request(f"{mirror.url}{path}", method, body, Content_Type="application/json", **headers)
        assert response.status == 413, path


@pytest.mark.parametrize("user", ["root", "root:forged", "nosuch:x"])
@pytest.mark.usefixtures("private")
def test_a_login_ignores_other_credentials(mirror, user):
    """A client can log in as another user, and again when its token has expired."""
    auth = mirror.auth if user == "root" else base64.b64encode(user.encode()).decode()
    changed = request(
        f"{mirror.url}/alice",
        "PATCH",
        {"password": "of-alice"},
        X_Devpi_Auth=mirror.auth,
        Content_Type="application/json",
    )
    assert changed.status == 200, changed.body
    for password, status in (("of-alice", 200), ("wrong", 401)):
        body = {"user": "alice", "password": password}
        login = request(f"{mirror.url}/+login", "POST", body, X_Devpi_Auth=auth, Content_Type="application/json")
        assert login.status == status, login.body


def push(mirror, project: str, *, source: str = "root/pypi", method: str = "POST", **fields: str) -> SimpleNamespace:
    """Push version 1.0 of a project from an index, to the private index if ``fields`` has no other target."""
    body = {"name": project, "version": "1.0", **(fields or {"targetindex": "alice/private"})}
    return request(f"{mirror.url}/{source}", method, body, X_Devpi_Auth=mirror.auth, Content_Type="application/json")


@pytest.mark.parametrize(
    ("method", "source", "hashes"),
    [
        ("POST", "root/pypi", {"sha256": hashlib.sha256(WHEEL).hexdigest()}),
        ("PUSH", "root/pypi/", {"md5": hashlib.md5(WHEEL, usedforsecurity=False).hexdigest()}),
        ("POST", "root/pypi/", {}),
    ],
)
def test_a_release_is_downloaded_and_pushed(mirror, private, upstream, index, method, source, hashes):
    project = f"pushed-{next(iter(hashes), 'none')}"
    wheel, sdist, other = (
        f"{project.replace('-', '_')}-{end}" for end in ("1.0-py3-none-any.whl", "1.0.zip", "2.0.zip")
    )
    index.fields[project] = {"filename": wheel, "hashes": hashes}
    index.others[project] = [sdist, other]
    # The index is volatile, so the second push replaces the files.
    for _push in range(2):
        response = push(mirror, project.replace("-", "_"), method=method, source=source)
        assert response.status == 200, response.body
        assert sorted(Path(entry[2]).name for entry in json.loads(response.body)["result"][1:]) == sorted(
            [wheel, sdist]
        )
        # All files of this project have the same URL.
        assert upstream.paths().count(f"/files/{project}-1.0-py3-none-any.whl") == 2
    files = listed(private, project)
    assert sorted(files) == sorted([wheel, sdist])
    for url in files.values():
        assert "/alice/private/" in url
        assert request(url).body == WHEEL
        assert request(url.replace("/-f/", "/+f/")).body == WHEEL


@pytest.mark.parametrize("state", ["stored", "evicted", "unrecorded"])
def test_a_release_of_a_known_file_is_pushed(mirror, private, state):
    project = f"known{state}"
    url = file_url(mirror, project)
    stored = mirror.folder / "server" / "+files" / url.removeprefix(f"{mirror.url}/").replace("/-f/", "/+f/")
    if state == "unrecorded":
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(WHEEL)
    else:
        assert request(url).body == WHEEL
    if state == "evicted":
        stored.unlink()
    response = push(mirror, project)
    assert response.status == 200, response.body
    assert "/alice/private/" in "".join(listed(private, project).values())
    assert stored.read_bytes() == WHEEL


def test_a_release_is_pushed_to_another_server(mirror, upstream, monkeypatch):
    received = []

    def receive(handler):
        received.append(handler.rfile.read(int(handler.headers["Content-Length"])))
        handler.send(200)

    monkeypatch.setattr(Handler, "do_POST", receive, raising=False)
    response = push(mirror, "external", posturl=f"{upstream.url}upload", username="a", password="b")
    assert response.status == 200, response.body
    (body,) = received
    assert WHEEL in body


@pytest.mark.parametrize(
    ("project", "path", "status", "expected"),
    [
        ("pushabsent", "/simple/pushabsent/", 404, 404),
        ("pushunavailable", "/simple/pushunavailable/", 500, 503),
        ("pushremoved", "/files/pushremoved-1.0-py3-none-any.whl", 410, 410),
        ("pushbroken", "/files/pushbroken-1.0-py3-none-any.whl", 500, 503),
    ],
)
@pytest.mark.usefixtures("private")
def test_a_push_reports_errors_of_the_upstream(mirror, index, project, path, status, expected):
    index.status[path] = status
    response = push(mirror, project)
    assert (response.status, response.headers["Content-Type"]) == (expected, "application/json")
    message = json.loads(response.body)["message"]
    assert message.startswith(f"Could not push {project} 1.0: could not download ")
    assert f": the upstream responded with status {status} " in message
    assert message.endswith(" Nothing was pushed.")


@pytest.mark.usefixtures("private")
def test_a_push_of_an_unknown_version_is_an_error_of_devpi(mirror, upstream):
    response = push(mirror, "otherversion", version="3.0", targetindex="alice/private")
    assert response.status == 400
    assert json.loads(response.body)["message"] == "there are no files for otherversion 3.0 on stage root/pypi"
    assert not [path for path in upstream.paths() if path.startswith("/files/otherversion")]


@pytest.mark.usefixtures("private")
def test_devpi_does_not_push_what_an_index_inherits(mirror, upstream):
    response = push(mirror, "onlyinherited", source="alice/private", targetindex="alice/private")
    assert response.status == 400
    assert "there are no files for onlyinherited 1.0 on stage alice/private" in response.body.decode()
    assert not [path for path in upstream.paths() if path.startswith("/files/onlyinherited")]


@pytest.mark.usefixtures("private")
def test_a_release_of_a_private_index_is_pushed(mirror):
    created = request(f"{mirror.url}/root/target", "PUT", {"bases": []}, X_Devpi_Auth=mirror.auth)
    assert created.status == 200, created.body
    response = push(mirror, "own", source="alice/private", version="9.0", targetindex="root/target")
    assert response.status == 200, response.body


@pytest.mark.parametrize("body", [b'{"name": ', b"\xff", b"{}" + b" " * 100_000 + b"}"])
def test_a_push_with_an_invalid_body_is_an_error_of_devpi(mirror, body):
    headers = {"X-Devpi-Auth": mirror.auth, "Content-Type": "application/json"}
    with pytest.raises(HTTPError) as caught:
        OPENER.open(Request(f"{mirror.url}/root/pypi", body, headers, method="POST"), timeout=30)
    with caught.value as response:
        assert (response.code, b"could not decode json" in response.read()) == (400, True)


def test_a_push_without_a_user_downloads_nothing(mirror, upstream):
    body = {"name": "refused", "version": "1.0", "targetindex": "alice/private"}
    assert request(f"{mirror.url}/root/pypi", "POST", body, Content_Type="application/json").status == 401
    assert not [path for path in upstream.paths() if "refused" in path]


def test_a_file_with_another_hash_is_refused_before_its_first_byte(mirror, index):
    index.fields["falsified"] = {"hashes": {"sha256": "0" * 64}}
    response = request(file_url(mirror, "falsified"), Range=f"bytes={len(WHEEL) - 1}-")
    assert (response.status, response.headers["Retry-After"]) == (503, "10")
    assert b"has the sha256 " in response.body


@pytest.mark.parametrize("hashes", [{"blake2b_256": "0" * 64, "sha512": "0" * 128}, {"sha256": "0000000000"}])
def test_a_hash_that_the_path_does_not_have_is_verified(mirror, index, hashes):
    project = f"unverified{len(hashes)}"
    index.fields[project] = {"hashes": hashes}
    url = file_url(mirror, project)
    response = request(url, Range=f"bytes={len(WHEEL) - 1}-")
    assert (response.status, response.headers["Retry-After"]) == (503, "10")
    assert not (mirror.folder / "server" / "+files" / url.removeprefix(f"{mirror.url}/")).exists()


@pytest.mark.parametrize("wanted", [f"bytes=0-{'9' * 5000}", f"bytes={'9' * 5000}-", f"bytes=-{'9' * 5000}"])
def test_a_range_with_too_many_digits_is_ignored(mirror, wanted):
    url = file_url(mirror, "manydigits")
    (mirror.folder / "server" / "+files" / url.removeprefix(f"{mirror.url}/")).unlink(missing_ok=True)
    response = request(url, Range=wanted)
    assert (response.status, response.body) == (200, WHEEL)


@pytest.fixture(scope="module")
def strict(mirror, upstream):
    """A mirror index, and a private index that inherits from it. ``set_policy`` replaces the mirror index's policy."""
    created = request(f"{mirror.url}/team", "PUT", {"password": "x" * 20}, X_Devpi_Auth=mirror.auth)
    assert created.status == 201, created.body
    types = ("mirror", "stage") if compat.MAJOR < 7 else ("remote", "local")
    settings = compat.renamed({"mirror_no_project_list": True, "mirror_url": upstream.url})
    for name, values in (
        ("strict", {"type": types[0], **settings}),
        ("private", {"type": types[1], "bases": ["team/strict"]}),
    ):
        created = request(f"{mirror.url}/team/{name}", "PUT", values, X_Devpi_Auth=mirror.auth)
        assert created.status == 200, created.body

    def set_policy(**rules: object) -> None:
        body = {**settings, **rules}
        changed = request(
            f"{mirror.url}/team/strict", "PATCH", body, X_Devpi_Auth=mirror.auth, Content_Type="application/json"
        )
        assert changed.status == 200, changed.body

    private = f"{mirror.url}/team/private/+simple/"
    return SimpleNamespace(
        url=f"{mirror.url}/team/strict",
        pages=f"{mirror.url}/team/strict/+simple/",
        private=private,
        set_policy=set_policy,
    )


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_hidden_file_is_neither_listed_nor_served(strict, mirror, index, is_stored):
    project = f"blocked{is_stored}".lower()
    strict.set_policy()
    (url,) = listed(strict.pages, project).values()
    if is_stored:
        assert request(url).body == WHEEL
    strict.set_policy(block=[f"{project}==1.0"])
    assert listed(strict.pages, project) == listed(strict.private, project) == {}
    assert b".whl" not in request(f"{strict.private}{project}/", Accept="text/html").body
    path = url.partition("/-")[2].join(("+", ""))
    for hidden in (url, f"{url}.metadata", f"{url}/", f"{strict.url}/{path}//", f"{strict.url}/+policy/{path}"):
        response = request(hidden)
        assert (response.status, response.headers["Retry-After"]) == (403, None), hidden
        assert b"block: blocked" in response.body
        assert b"==1.0" in response.body
    described = json.loads(request(f"{strict.url}/+policy/{project}").body)["result"]
    rule = {"rule": f"block: {project}==1.0", "available_at": None}
    assert described == {
        "project": project, "listed": 0, "hidden": [{"filename": f"{project}-1.0-py3-none-any.whl", **rule}],
    }  # fmt: skip
    # Another index of the same upstream has another policy.
    assert listed(f"{mirror.url}/root/pypi/+simple/", project)


@pytest.mark.parametrize(("hide_yanked", "max_age"), [(False, config.VISIBLE_FRESHNESS), (True, config.freshness())])
def test_nginx_asks_again_soon_whether_a_file_was_yanked(strict, hide_yanked, max_age):
    strict.set_policy(hide_yanked=hide_yanked)
    (url,) = listed(strict.pages, "withdrawn").values()
    path = url.partition("/-")[2].join(("+", ""))
    response = request(f"{strict.url}/+policy/{path}")
    assert (response.status, response.headers["Cache-Control"]) == (204, f"max-age={max_age}")


def test_a_young_file_is_listed_when_it_is_old_enough(strict, index):
    now = time.time()
    for project, age in (("young", 60), ("mature", 7200)):
        uploaded = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - age))
        index.fields[project] = {"upload-time": uploaded}
    strict.set_policy(min_release_age="1h")
    assert listed(strict.pages, "young") == {}
    (hidden,) = json.loads(request(f"{strict.url}/+policy/young").body)["result"]["hidden"]
    assert hidden["available_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60 + 3600))
    (url,) = listed(strict.pages, "mature").values()
    assert request(f"{url}.metadata").body == METADATA
    # The page is fresh until the next file becomes available.
    strict.set_policy(min_release_age="80s")
    caching = request(f"{strict.pages}young/", Accept=JSON).headers["Cache-Control"]
    assert 1 <= int(re.match(r"max-age=(\d+)", caching)[1]) <= 20
    strict.set_policy(min_release_age="1m")
    assert len(listed(strict.private, "young")) == 1


def test_a_file_without_an_upload_time_is_hidden(strict):
    strict.set_policy(min_release_age="1s")
    assert listed(strict.pages, "timeless") == {}
    (hidden,) = json.loads(request(f"{strict.url}/+policy/timeless").body)["result"]["hidden"]
    assert hidden["rule"] == "min_release_age: 1s, no upload time"


def test_a_stored_file_that_the_upstream_removed_has_the_age_of_its_download(strict, mirror, index):
    strict.set_policy()
    (url,) = listed(strict.pages, "vanished").values()
    assert request(url).status == 200
    for path in (mirror.folder / "pages" / "team" / "strict").rglob("vanished.page"):
        path.unlink()
    index.status["/simple/vanished/"] = 404
    strict.set_policy(min_release_age="1h")
    response = request(url)
    assert (response.status, b"min_release_age: 1h, available at " in response.body) == (403, True)
    stored = mirror.folder / "server" / "+files" / url.removeprefix(f"{mirror.url}/").replace("/-f/", "/+f/")
    os.utime(stored, (time.time(), time.time() - 7200))
    assert request(url).body == WHEEL


def test_a_status_line_has_the_reason(strict):
    strict.set_policy()
    (url,) = listed(strict.pages, "reasoned").values()
    strict.set_policy(block=["reason*"])
    with pytest.raises(HTTPError) as caught:
        OPENER.open(url, timeout=30)
    with caught.value as response:
        assert (response.code, response.reason) == (403, "Hidden by block: reason*")


def test_nothing_is_served_under_an_invalid_policy(strict):
    strict.set_policy()
    (url,) = listed(strict.pages, "undecided").values()
    strict.set_policy(min_release_age="soon")
    for path in (url, f"{url}.metadata", f"{strict.pages}undecided/", f"{strict.private}undecided/"):
        response = request(path)
        assert (response.status, b"min_release_age" in response.body) == (503, True), path


def test_other_settings_leave_the_policy_as_it_is(strict, mirror):
    strict.set_policy(block=["kept"])
    changes = ["title=Another title"]
    response = request(strict.url, "PATCH", changes, X_Devpi_Auth=mirror.auth, Content_Type="application/json")
    assert json.loads(response.body)["result"]["block"] == ["kept"]
    assert listed(strict.pages, "kept") == {}


def test_a_private_index_has_no_policy_of_its_own(strict, mirror):
    body = {"block": ["alpha"]}
    url = f"{mirror.url}/team/private"
    response = request(url, "PATCH", body, X_Devpi_Auth=mirror.auth, Content_Type="application/json")
    assert response.status == 400
    assert request(f"{url}/+policy/alpha").status == 404


def test_nginx_learns_the_mirror_indexes_and_their_policies(strict, mirror):
    def routes() -> dict[str, list[object]]:
        return json.loads((mirror.folder / "nginx" / "routes.json").read_text())

    strict.set_policy()
    before = routes()["team/strict"]
    assert before[1] is False
    assert "team/private" not in routes()
    strict.set_policy(block=["alpha"])
    after = routes()["team/strict"]
    assert after[1] is True
    assert after[0] != before[0]
    assert '"^/(?<mirror>team/strict)/[+-]f/' in (mirror.folder / "nginx.conf").read_text()
    response = request(f"{strict.private}shared/", Accept=JSON, X_Shared_Pages="1")
    assert response.headers["X-Accel-Redirect"] == "/+shared/team/strict/shared/"
