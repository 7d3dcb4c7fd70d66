# SPDX-License-Identifier: GPL-3.0-or-later
"""The status, headers and body of the plugin's responses, for the mirror index and for an index that inherits from it."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import time
from http import HTTPStatus
from types import SimpleNamespace
from urllib.parse import urljoin

import pytest
from devpi_mirror import compat, config
from devpi_mirror.pages import JSON
from devpi_servers import file_url, request
from fake_index import WHEEL
from fake_upstream import serving

pytestmark = pytest.mark.usefixtures("private")

INDEXES = ["root/pypi", "alice/private"]
USER, SECRET = "upstream-user", "upstream-secret"
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
STALE = '110 - "Response is Stale"'
NUMBERS = itertools.count(1)


def with_credentials(url: str) -> str:
    return url.replace("//", f"//{USER}:{SECRET}@", 1)


@pytest.fixture(scope="module")
def upstream(index):
    """An upstream for which the mirror has credentials, as the role configures them."""
    with serving(index) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVPI_MIRROR_UPSTREAM_URL", with_credentials(server.url))
        yield server


@pytest.fixture
def project():
    """The name of a project that no other test uses."""
    return f"project{next(NUMBERS)}"


def get(mirror, name: str, project: str, **headers: str) -> SimpleNamespace:
    return request(f"{mirror.url}/{name}/+simple/{project}/", **{"Accept": JSON, **headers})


def respond(index, path: str, status: int, **headers: str) -> None:
    """Set the status of the upstream's responses for a path."""
    index.answers[path] = lambda handler: handler.send(status, **headers)


def list_files(index, project: str, *files: dict, **fields: object) -> None:
    """Set the files that the upstream lists of a project."""
    listed = [{"url": f"/files/{file['filename']}", "hashes": {}, **file} for file in files]
    content = json.dumps({"meta": {"api-version": "1.4"}, "name": project, "files": listed, **fields}).encode()
    index.answers[f"/simple/{project}/"] = lambda handler: handler.send(200, content, Content_Type=JSON)


def set_age(mirror, project: str, seconds: float) -> None:
    """Set when the upstream last confirmed a page, in seconds before now."""
    (path,) = (mirror.folder / "pages").rglob(f"{project}.page")
    then = time.time() - seconds
    os.utime(path, (then, then))


def page_requests(upstream, project: str) -> int:
    return upstream.paths().count(f"/simple/{project}/")


@pytest.mark.parametrize("accept", [JSON, "text/html"])
@pytest.mark.parametrize(("name", "project"), [*((name, "varied") for name in INDEXES), ("alice/private", "shared")])
def test_a_page_varies_with_the_form_that_the_client_accepts(mirror, name, project, accept):
    response = get(mirror, name, project, Accept=accept)
    assert (response.status, response.headers["Vary"]) == (200, "Accept")
    if response.headers["ETag"]:
        unchanged = get(mirror, name, project, Accept=accept, If_None_Match=response.headers["ETag"])
        assert (unchanged.status, unchanged.headers["Vary"]) == (304, "Accept")


caching = pytest.mark.parametrize(
    ("status", "expected", "cache_control"),
    [(404, 404, "max-age=1"), (410, 410, "max-age=1"), (403, 403, None), (429, 429, None), (500, 503, None)],
)


@caching
@pytest.mark.parametrize("name", INDEXES)
def test_clients_cache_only_the_failure_of_a_missing_page(
    mirror, index, project, name, status, expected, cache_control
):
    respond(index, f"/simple/{project}/", status)
    response = get(mirror, name, project)
    assert (response.status, response.headers["Cache-Control"]) == (expected, cache_control)


@caching
def test_clients_cache_only_the_failure_of_a_missing_file(mirror, index, project, status, expected, cache_control):
    respond(index, f"/files/{project}-1.0-py3-none-any.whl", status)
    response = request(file_url(mirror, project))
    assert (response.status, response.headers["Cache-Control"]) == (expected, cache_control)


retrying = pytest.mark.parametrize(
    ("status", "headers", "expected", "retry_after"),
    [
        (429, {"Retry_After": "77"}, 429, "77"),
        (429, {"Retry_After": DATE}, 429, DATE),
        (429, {"Retry_After": "soon"}, 429, None),
        (403, {"Retry_After": "77"}, 403, "77"),
        (403, {"Retry_After": DATE}, 403, DATE),
        (403, {}, 403, None),
        (500, {}, 503, "10"),
        (503, {"Retry_After": "77"}, 503, "77"),
    ],
)


@retrying
@pytest.mark.parametrize("name", INDEXES)
def test_a_page_that_fails_has_the_upstreams_retry_after(
    mirror, index, project, name, status, headers, expected, retry_after
):
    respond(index, f"/simple/{project}/", status, **headers)
    response = get(mirror, name, project)
    assert (response.status, response.headers["Retry-After"]) == (expected, retry_after)


@retrying
def test_a_file_that_fails_has_the_upstreams_retry_after(
    mirror, index, project, status, headers, expected, retry_after
):
    respond(index, f"/files/{project}-1.0-py3-none-any.whl", status, **headers)
    response = request(file_url(mirror, project))
    assert (response.status, response.headers["Retry-After"]) == (expected, retry_after)


@pytest.mark.parametrize("name", INDEXES)
def test_a_reload_reaches_the_upstream(mirror, index, upstream, project, name):
    first = get(mirror, name, project)
    assert (first.status, first.headers["Warning"], page_requests(upstream, project)) == (200, None, 1)
    assert get(mirror, name, project).body == first.body
    assert page_requests(upstream, project) == 1
    assert get(mirror, name, project, Cache_Control="no-cache").headers["Warning"] is None
    assert page_requests(upstream, project) == 2
    respond(index, f"/simple/{project}/", 500)
    stale = get(mirror, name, project, Cache_Control="no-cache")
    assert (stale.status, stale.body, stale.headers["Warning"]) == (200, first.body, STALE)
    assert stale.headers["ETag"] != first.headers["ETag"]
    assert page_requests(upstream, project) == 3
    assert get(mirror, name, project).headers["Warning"] is None
    assert page_requests(upstream, project) == 3


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_page_that_the_upstream_does_not_confirm_is_stale(mirror, index, project, name, status):
    first = get(mirror, name, project)
    respond(index, f"/simple/{project}/", status)
    set_age(mirror, project, config.freshness())
    stale = get(mirror, name, project)
    assert (stale.status, stale.body, stale.headers["Warning"]) == (200, first.body, STALE)
    fresh_for = config.ABSENT_FRESHNESS if status == 404 else config.FAILURE_FRESHNESS
    # nginx must not serve it for longer if the upstream responds.
    limit = f", stale-while-revalidate={config.max_stale()}" if status == 500 else ""
    assert stale.headers["Cache-Control"] == f"max-age={fresh_for}{limit}"
    message = f"The page of {project} in root/pypi is stale: could not download "
    assert re.search(rf"{message}.*/: the upstream responded with status {status} ", mirror.log.read_text())


@pytest.mark.parametrize(("fields", "size", "requests"), [({"size": 12345}, 12345, []), ({}, len(WHEEL), ["HEAD"])])
def test_the_size_of_a_file_is_sent_without_a_download(mirror, index, upstream, project, fields, size, requests):
    index.fields[project] = fields
    response = request(file_url(mirror, project), "HEAD")
    assert (response.status, response.headers["Content-Length"]) == (200, str(size))
    path = f"/files/{project}-1.0-py3-none-any.whl"
    assert [method for method, requested, _headers in upstream.requests if requested == path] == requests
    assert not list((mirror.folder / "server" / "+files").rglob(f"{project}-*"))


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500])
def test_a_failure_has_its_reason(mirror, index, upstream, project, name, status):
    respond(index, f"/simple/{project}/", status)
    reason = f"the upstream responded with status {status} {HTTPStatus(status).phrase}"
    message = f"could not download {upstream.url}{project}/: {reason}"
    assert get(mirror, name, project).body.decode() == f"{message}\n"
    assert (message in mirror.log.read_text()) == (status not in (404, 410))


def reject(handler) -> None:
    handler.send(500)


def disconnect(handler) -> None:
    handler.close_connection = True


@pytest.fixture(scope="module")
def configured(mirror, upstream):
    """A mirror index whose own URL has the credentials."""
    settings = compat.renamed({"mirror_no_project_list": True, "mirror_url": with_credentials(upstream.url)})
    settings["type"] = "mirror" if compat.MAJOR < 7 else "remote"
    created = request(f"{mirror.url}/alice/mirror", "PUT", settings, X_Devpi_Auth=mirror.auth)
    assert created.status == 200, created.body


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("name", ["root/pypi", "alice/mirror"])
@pytest.mark.parametrize(
    ("fail", "reason"), [(reject, "responded with status 500 "), (disconnect, "can't be reached ")]
)
def test_a_failure_has_no_credentials(mirror, index, upstream, project, name, fail, reason):
    # devpi 6 logs the settings of an index that is created.
    start = mirror.log.stat().st_size
    path = f"/files/{project}.whl"
    index.fields[project] = {"url": with_credentials(urljoin(upstream.url, path)) + f"?signature={SECRET}"}
    index.answers[f"{path}?signature={SECRET}"] = fail
    page = get(mirror, name, project)
    (file,) = json.loads(page.body)["files"]
    failed_file = request(urljoin(f"{mirror.url}/{name}/+simple/{project}/", file["url"]))
    expected = f"could not download {urljoin(upstream.url, path)}: the upstream {reason}"
    assert failed_file.body.startswith(expected.encode())
    respond(index, f"/simple/{project}-failed/", 500)
    failed_page = get(mirror, name, f"{project}-failed")
    assert failed_page.status == 503
    expected = f"Basic {base64.b64encode(f'{USER}:{SECRET}'.encode()).decode()}"
    sent = {requested: headers for _method, requested, headers in upstream.requests}
    assert (
        sent[f"/simple/{project}/"]["Authorization"] == sent[f"/simple/{project}-failed/"]["Authorization"] == expected
    )
    log = mirror.log.read_bytes()[start:]
    assert failed_file.body in log
    assert failed_page.body in log
    outputs = [log, *(found.body + bytes(found.headers) for found in (page, failed_file, failed_page))]
    assert not [text for text in (USER, SECRET) for output in outputs if text.encode() in output]


@pytest.mark.parametrize("name", INDEXES)
def test_a_page_has_the_fields_of_the_upstream(mirror, index, project, name):
    file = {"filename": f"{project}-1.0.zip", "hashes": {"future": "0" * 64}, "size": 7, "requires-python": ">=3.8"}
    file |= {"upload-time": "2026-01-01T00:00:00Z", "yanked": "broken", "of-the-future": [1]}
    list_files(index, project, file, versions=["1.0"], **{"of-the-future": {"a": 1}})
    found = json.loads(get(mirror, name, project).body)
    (listed,) = found.pop("files")
    assert found == {
        "meta": {"api-version": "1.4"},
        "name": project,
        "versions": ["1.0"],
        "of-the-future": {"a": 1},
    }
    assert listed.pop("url").startswith("../../../../root/pypi/-f/")
    assert listed == file


@pytest.mark.parametrize("name", INDEXES)
def test_changes_of_the_upstream_appear_after_the_freshness(mirror, index, project, name):
    removed, yanked, other = (f"{project}-{version}.zip" for version in ("1.0", "2.0", "3.0"))
    list_files(index, project, *({"filename": filename} for filename in (removed, yanked, other)))
    first = get(mirror, name, project)
    html = get(mirror, name, project, Accept="text/html").body.decode()
    assert removed in html
    assert "data-yanked" not in html
    assert "quarantined" not in html
    status = {"status": "quarantined", "reason": "malware"}
    list_files(
        index, project, {"filename": yanked, "yanked": "broken"}, {"filename": other}, **{"project-status": status}
    )
    set_age(mirror, project, config.freshness() - 60)
    assert get(mirror, name, project).body == first.body
    set_age(mirror, project, config.freshness())
    changed = get(mirror, name, project)
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert changed.headers["Warning"] is None
    page = json.loads(changed.body)
    assert page["project-status"] == status
    assert [(file["filename"], file.get("yanked")) for file in page["files"]] == [(yanked, "broken"), (other, None)]
    html = get(mirror, name, project, Accept="text/html").body.decode()
    assert removed not in html
    assert html.count('data-yanked="broken"') == 1
    assert '<meta name="pypi:project-status" content="quarantined">' in html
    assert '<meta name="pypi:project-status-reason" content="malware">' in html


def test_a_page_with_private_files_has_the_changes_of_the_upstream(mirror, index):
    list_files(index, "shared", {"filename": "shared-1.0.zip"}, {"filename": "shared-2.0.zip"})
    get(mirror, "alice/private", "shared", Cache_Control="no-cache")
    status = {"status": "quarantined"}
    list_files(index, "shared", {"filename": "shared-2.0.zip", "yanked": "broken"}, **{"project-status": status})
    set_age(mirror, "shared", config.freshness())
    page = json.loads(get(mirror, "alice/private", "shared").body)
    assert page["project-status"] == status
    assert [(file["filename"], file.get("yanked")) for file in page["files"]] == [
        ("shared-9.0-py3-none-any.whl", None),
        ("shared-2.0.zip", "broken"),
    ]
