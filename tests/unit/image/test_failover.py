# SPDX-License-Identifier: GPL-3.0-or-later
"""When the image's package uses the fallback of an upstream, and what it requests there."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import socket
import threading
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest
from devpi_mirror import compat, config, upstream
from devpi_mirror.core_metadata import get_core_metadata
from devpi_mirror.downloads import Downloads, Job, Source
from devpi_mirror.failover import Failover
from devpi_mirror.mirror import Mirror, fallback_url
from devpi_mirror.page_cache import PageCache
from devpi_mirror.pages import JSON
from devpi_mirror.upstream import Circuit, Upstream, UpstreamError
from fake_upstream import serving
from zips import OWN, metadata_of, zip_of

INDEX = "root/pypi"
FRESHNESS = 300.0
METADATA = metadata_of("alpha", "1.0")
WHEEL = zip_of(METADATA, OWN)


class Index:
    """Responds to requests as an index that has every project. ``name`` is in the serial of its pages.

    ``status`` is that of all responses, and ``is_down`` is whether connections end without one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.is_down = False
        self.content = WHEEL
        self.fields: dict[str, object] = {}
        self.etag = '"same"'

    def __call__(self, handler) -> None:
        if self.is_down:
            handler.close_connection = True
        elif self.status != 200:
            handler.send(self.status, b"no")
        elif handler.path.startswith("/simple/"):
            self.send_page(handler, handler.path.strip("/").split("/")[-1])
        elif handler.path.endswith(".metadata"):
            handler.send(200, METADATA)
        else:
            handler.send(200, self.content)

    def send_page(self, handler, project: str) -> None:
        filename = f"{project}-1.0-py3-none-any.whl"
        file = {"filename": filename, "url": f"/files/{self.name}/{filename}"}
        file["hashes"] = {"sha256": hashlib.sha256(self.content).hexdigest()}
        page = {"meta": {"api-version": "1.0"}, "from": self.name, "files": [{**file, **self.fields}]}
        if handler.headers.get("If-None-Match") == self.etag:
            handler.send(304)
        else:
            handler.send(200, json.dumps(page).encode(), Content_Type=JSON, ETag=self.etag)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The pages of two upstreams, ``office`` and ``public``, with the clock ``now``."""
    monkeypatch.setattr(upstream, "PAUSE", 0)
    monkeypatch.setattr(config, "PAGES", tmp_path / "pages")
    monkeypatch.setattr("devpi_mirror.downloads.free_bytes", lambda _folder: 10**12)
    state = SimpleNamespace(office=Index("office"), public=Index("public"), now=1e9)

    def clock():
        return state.now

    with serving(state.office) as state.office_server, serving(state.public) as state.public_server:
        state.upstreams = (
            Upstream(state.office_server.url, circuit=Circuit(clock)),
            Upstream(state.public_server.url),
        )
        state.caches = [PageCache(one, INDEX, config.PAGES, FRESHNESS, clock) for one in state.upstreams]
        state.pages = Failover(*state.caches)
        yield state
        for one in state.upstreams:
            one.close()


def source_of(served) -> str:
    """Return the index that a page is from."""
    return served.page()["from"]


def path_of(pages, project: str = "alpha") -> str:
    listing, _cache = pages.listing(project)
    return next(listing.newest_first())[0]


def link_of(pair, project: str = "alpha"):
    link = pair.pages.find(project, path_of(pair.pages, project), math.inf)
    assert link is not None
    return link


def download(pair, tmp_path, link) -> bytes:
    """Return the content of a file that is downloaded as a client requests it."""
    stored = []
    registry = Downloads(tmp_path / "tmp")
    source = Source(link, None, link.file["hashes"])
    job = Job(tmp_path / "stored", source, lambda path, _digests: stored.append(path.read_bytes()))
    try:
        registry.start(job).await_end()
    finally:
        registry.pool.shutdown()
        registry.prefetching.shutdown()
    return stored[0]


def test_the_upstream_is_used_while_it_is_reachable(pair):
    assert source_of(pair.pages.get("alpha")) == "office"
    assert pair.public_server.requests == []


def test_the_fallback_is_used_if_the_upstream_is_down_at_the_start(pair):
    pair.office.is_down = True
    served = pair.pages.get("alpha")
    assert source_of(served) == "public"
    # nginx asks again soon, as the upstream can respond again at any time.
    assert (served.fresh_for, served.is_usable_stale, served.error) == (config.FAILURE_FRESHNESS, False, "")


def test_a_cached_page_of_the_upstream_is_served_while_it_is_down(pair):
    pair.pages.get("alpha")
    pair.office.is_down = True
    pair.now += 10 * FRESHNESS + config.max_stale()
    served = pair.pages.get("alpha")
    assert source_of(served) == "office"
    assert "can't be reached" in served.error
    assert source_of(pair.pages.get("beta")) == "public"
    assert pair.public_server.paths() == ["/simple/beta/"]


def test_the_upstream_is_used_again_when_it_responds_again(pair):
    pair.office.is_down = True
    assert source_of(pair.pages.get("alpha")) == "public"
    pair.office.is_down = False
    assert source_of(pair.pages.get("alpha")) == "public"
    pair.now += config.FALLBACK_PAUSE
    assert source_of(pair.pages.get("alpha")) == "office"
    # A validator belongs to its upstream: both have the same ETag.
    assert "If-None-Match" not in pair.office_server.requests[-1][2]
    pair.now += FRESHNESS
    pair.office.is_down = True
    assert source_of(pair.pages.get("beta")) == "public"
    assert "If-None-Match" not in pair.public_server.requests[-1][2]


def test_an_unreachable_upstream_gets_few_requests(pair):
    pair.office.is_down = True
    for number in range(20):
        assert source_of(pair.pages.get(f"new{number}")) == "public"
    assert len(pair.office_server.requests) == upstream.ATTEMPTS
    pair.now += config.FALLBACK_PAUSE
    for number in range(20):
        assert source_of(pair.pages.get(f"later{number}")) == "public"
    assert len(pair.office_server.requests) == 2 * upstream.ATTEMPTS


@pytest.fixture
def black_hole():
    """The URL of an upstream that does not respond to connection requests, as its queue of connections is full."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _connection in range(2):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/simple/"


def test_a_black_hole_costs_one_timeout(pair, black_hole, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "CONNECT_TIMEOUT", 0.2)
    office = Upstream(black_hole, circuit=Circuit(lambda: pair.now))
    attempts = []
    attempt = office.attempt
    monkeypatch.setattr(office, "attempt", lambda *arguments: attempts.append(arguments) or attempt(*arguments))
    pages = Failover(PageCache(office, INDEX, tmp_path, FRESHNESS), pair.caches[1])
    for number in range(10):
        assert source_of(pages.get(f"new{number}")) == "public"
    assert len(attempts) == 1
    office.close()


def test_an_upstream_that_hangs_is_unreachable(pair, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "FALLBACK_READ_TIMEOUT", 0.2)
    is_released = threading.Event()
    with serving(lambda _handler: is_released.wait(30)) as server:
        office = Upstream(server.url, circuit=Circuit(lambda: pair.now))
        pages = Failover(PageCache(office, INDEX, tmp_path, FRESHNESS), pair.caches[1])
        for number in range(10):
            assert source_of(pages.get(f"new{number}")) == "public"
        is_released.set()
        office.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url", ["http://upstream.invalid/simple/", "https://{host}/simple/", "http://127.0.0.1:9/simple/"]
)
def test_errors_of_dns_tls_and_tcp_are_outages(pair, tmp_path, url):
    office = Upstream(url.format(host=f"127.0.0.1:{pair.office_server.server_port}"), circuit=Circuit())
    pages = Failover(PageCache(office, INDEX, tmp_path, FRESHNESS), pair.caches[1])
    assert source_of(pages.get("alpha")) == "public"
    assert office.circuit is not None
    assert office.circuit.until is not None
    office.close()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429])
def test_a_denial_is_a_result(pair, status):
    pair.office.status = status
    with pytest.raises(UpstreamError) as caught:
        pair.pages.get("alpha")
    assert caught.value.status == status
    assert pair.public_server.requests == []


def test_a_response_that_is_no_page_is_no_outage(pair):
    pair.office.fields = {"url": None}
    with pytest.raises(UpstreamError, match="no URL"):
        pair.pages.get("alpha")
    assert pair.public_server.requests == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_permits_the_fallback_for_its_request_alone(pair, status):
    pair.office.status = status
    assert source_of(pair.pages.get("alpha")) == "public"
    pair.office.status = 200
    assert source_of(pair.pages.get("beta")) == "office"
    assert source_of(pair.pages.get("alpha")) == "office"


def test_a_project_that_the_fallback_does_not_have_does_not_exist(pair):
    pair.office.is_down = True
    pair.public.status = 404
    with pytest.raises(UpstreamError) as caught:
        pair.pages.get("alpha")
    assert caught.value.status == 404


def test_both_upstreams_can_be_unreachable(pair):
    pair.office.is_down = pair.public.is_down = True
    with pytest.raises(UpstreamError, match="and its fallback can't be used either") as caught:
        pair.pages.get("alpha")
    assert (caught.value.status, caught.value.is_outage) == (503, True)


# Files and core metadata.


def test_a_file_of_a_cached_page_is_downloaded_from_the_fallback(pair, tmp_path):
    pair.office.fields = {"core-metadata": {"sha256": hashlib.sha256(METADATA).hexdigest()}}
    path_of(pair.pages)
    pair.office.is_down = True
    assert download(pair, tmp_path, link_of(pair)) == WHEEL
    assert pair.public_server.paths()[-1].startswith("/files/public/")
    metadata = link_of(pair).request(partial(get_core_metadata, stored=tmp_path / "none", folder=tmp_path))
    assert metadata == METADATA


def test_a_file_of_the_fallbacks_page_is_downloaded_from_it(pair, tmp_path):
    pair.office.is_down = True
    link = link_of(pair)
    assert link.is_of_fallback
    assert download(pair, tmp_path, link) == WHEEL
    pair.office.is_down = False
    pair.now += config.FALLBACK_PAUSE
    link = link_of(pair)
    assert not link.is_of_fallback
    assert download(pair, tmp_path, link) == WHEEL
    assert pair.office_server.paths()[-1].startswith("/files/office/")


def test_an_interrupted_download_is_resumed_from_the_fallback(pair, tmp_path):
    link = link_of(pair)

    def interrupt(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(WHEEL)))
        handler.end_headers()
        handler.wfile.write(WHEEL[:100])
        handler.close_connection = True

    pair.office_server.answer = interrupt
    assert download(pair, tmp_path, link) == WHEEL
    assert pair.public_server.requests[-1][2]["Range"] == "bytes=100-"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429])
def test_a_denied_file_is_not_requested_from_the_fallback(pair, tmp_path, status):
    link = link_of(pair)
    pair.office.status = status
    with pytest.raises(UpstreamError) as caught:
        download(pair, tmp_path, link)
    assert caught.value.status == status
    assert pair.public_server.requests == []


def test_a_file_with_another_hash_is_not_downloaded_from_the_fallback(pair, tmp_path):
    link = link_of(pair)
    pair.office.is_down = True
    pair.public.content = WHEEL + b"other"
    with pytest.raises(UpstreamError, match="can't be reached"):
        download(pair, tmp_path, link)
    assert pair.public_server.paths() == ["/simple/alpha/"]


def test_content_of_the_fallback_with_another_hash_is_refused(pair, tmp_path):
    link = link_of(pair)
    pair.office.is_down = True
    pair.public.fields = {"hashes": link.file["hashes"]}
    pair.public.content = WHEEL[:-1] + b"?"
    with pytest.raises(UpstreamError, match=r"has the sha256 .* instead of"):
        download(pair, tmp_path, link)


@pytest.mark.parametrize("hashes", [{}, {"md5": "0" * 32}])
def test_a_file_without_a_sha256_is_not_downloaded_from_the_fallback(pair, tmp_path, hashes):
    pair.office.fields = pair.public.fields = {"hashes": hashes}
    link = link_of(pair)
    pair.office.is_down = True
    with pytest.raises(UpstreamError, match="can't be reached"):
        download(pair, tmp_path, link)
    assert pair.public_server.requests == []


def test_core_metadata_that_differs_from_the_clients_page_is_refused(pair, tmp_path):
    pair.office.fields = {"core-metadata": {"sha256": hashlib.sha256(b"other").hexdigest()}}
    link = link_of(pair)
    pair.office.is_down = True
    with pytest.raises(UpstreamError, match="has another sha256"):
        link.request(partial(get_core_metadata, stored=tmp_path / "none", folder=tmp_path))


def test_an_unreachable_target_of_a_redirect_says_nothing_about_the_upstream(pair):
    pair.office_server.answer = lambda handler: handler.send(302, Location="http://127.0.0.1:9/")
    assert source_of(pair.pages.get("alpha")) == "public"
    pair.office_server.answer = pair.office
    assert source_of(pair.pages.get("beta")) == "office"


# The circuit.


def fail(error: UpstreamError) -> None:
    raise error


OUTAGE = UpstreamError("down", is_outage=True)


@pytest.fixture
def circuit():
    state = SimpleNamespace(now=100.0)
    state.circuit = Circuit(lambda: state.now)
    state.request = lambda: state.circuit.request("alpha", lambda error: error.is_outage)
    with pytest.raises(UpstreamError, match="down"), state.request():
        fail(OUTAGE)
    return state


def test_a_change_of_the_upstream_is_logged_once(capsys, circuit):
    circuit.now += config.FALLBACK_PAUSE
    with pytest.raises(UpstreamError), circuit.request():
        fail(OUTAGE)
    assert capsys.readouterr().out == "The fallback is used until the upstream responds: down\n"
    circuit.now += config.FALLBACK_PAUSE
    for _request in range(2):
        with circuit.request():
            pass
    assert capsys.readouterr().out == "The upstream responds again, and is used instead of its fallback\n"


def test_one_request_at_a_time_probes_an_unreachable_upstream(circuit):
    with pytest.raises(UpstreamError, match=r"alpha: the upstream was unreachable lately \(down\)"), circuit.request():
        raise AssertionError("sent")
    circuit.now += config.FALLBACK_PAUSE
    with circuit.request(), pytest.raises(UpstreamError, match="unreachable lately"), circuit.request():
        raise AssertionError("sent")
    with circuit.request(), circuit.request():
        pass


def test_a_probe_without_a_result_is_followed_by_another(circuit):
    circuit.now += config.FALLBACK_PAUSE
    for error in (UpstreamError("all connections are in use"), OUTAGE):
        with pytest.raises(UpstreamError) as caught, circuit.request():
            fail(error)
        assert caught.value is error
    with pytest.raises(UpstreamError, match="unreachable lately"), circuit.request():
        raise AssertionError("sent")


def test_pages_and_metadata_are_prefetched_from_the_fallback(pair, load, monkeypatch, tmp_path):
    # Another devpi of these tests has the patches.
    monkeypatch.setattr(load("patches"), "apply", lambda: None)
    monkeypatch.setattr(load("config"), "PAGES", tmp_path)
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_URL", pair.office_server.url)
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_FALLBACK", "1")
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_FALLBACK_URL", pair.public_server.url)
    pair.office.is_down = True
    pair.public.fields = {"core-metadata": True}
    plugin = load("plugin")
    service = plugin.Service(None)
    mirror = plugin.Mirror(INDEX, pair.office_server.url, service.prefetch)
    service.prefetch(mirror, "alpha")
    assert list(service.prefetched_metadata.contents.values()) == [METADATA]
    assert [path.partition("/")[2].partition("/")[0] for path in pair.public_server.paths()] == ["simple", "files"]
    for cache in (mirror.pages.cache, mirror.pages.fallback):
        cache.upstream.close()


# The settings.


def with_credentials(url: str, credentials: str) -> str:
    return url.replace("//", f"//{credentials}@")


@pytest.fixture
def configured(pair, monkeypatch):
    """Set the environment, and return a function that opens a mirror index with the URL of the office."""
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_URL", with_credentials(pair.office_server.url, "ann:office"))
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_FALLBACK", "1")
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_FALLBACK_URL", with_credentials(pair.public_server.url, "bob:public"))
    opened = []

    def open_mirror(name=INDEX, url=pair.office_server.url):
        opened.append(Mirror(name, url, lambda _mirror, _project: None))
        return opened[-1]

    yield open_mirror
    for mirror in opened:
        for cache in filter(None, (mirror.pages.cache, mirror.pages.fallback)):
            cache.upstream.close()


def test_each_upstream_gets_its_own_credentials(pair, configured, capsys):
    mirror = configured()
    mirror.get("alpha")
    path = path_of(mirror.pages)
    pair.office.is_down = True
    # The fallback's page links to a file of the office, as one with the same origin could.
    pair.public.fields = {"url": f"{pair.office_server.url}alpha.whl"}
    served = mirror.get("beta")
    with pytest.raises(UpstreamError) as caught:
        mirror.find(path)[1].request(lambda one, file: one.get(file["url"]))
    sent = [
        {headers.get("Authorization", "") for _method, _path, headers in server.requests}
        for server in (pair.office_server, pair.public_server)
    ]
    office, public = ("Basic " + base64.b64encode(text).decode() for text in (b"ann:office", b"bob:public"))
    # Without credentials, the file is requested through the connections of the fallback.
    assert sent == [{office, ""}, {public}]
    stored = b"".join(file.read_bytes() for file in config.PAGES.rglob("*.page"))
    assert not {b"ann:", b"bob:"} & {word for word in (b"ann:", b"bob:") if word in stored + served.form()}
    assert "bob" not in str(caught.value) + capsys.readouterr().out


@pytest.mark.parametrize("name", ["root/other", "alice/mirror"])
def test_other_indexes_have_no_fallback(pair, configured, name):
    mirror = configured(name)
    pair.office.is_down = True
    with pytest.raises(UpstreamError, match="can't be reached"):
        mirror.get("alpha")
    assert pair.public_server.requests == []


def test_an_index_whose_url_was_changed_has_no_fallback(pair, configured):
    mirror = configured(url=pair.office_server.url + "other/")
    pair.office.is_down = True
    with pytest.raises(UpstreamError, match="can't be reached"):
        mirror.get("alpha")
    assert pair.public_server.requests == []


def test_an_index_without_a_url_has_no_fallback(configured):
    assert configured("alice/mirror", "").pages.fallback is None


def test_the_default_fallback_is_the_default_upstream_of_devpi(configured, pair, monkeypatch):
    monkeypatch.delenv("DEVPI_MIRROR_UPSTREAM_FALLBACK_URL")
    assert fallback_url(INDEX, pair.office_server.url) == compat.default_mirror_url()
    monkeypatch.delenv("DEVPI_MIRROR_UPSTREAM_FALLBACK")
    assert fallback_url(INDEX, pair.office_server.url) == ""
    mirror = configured()
    assert (mirror.pages.fallback, mirror.pages.cache.upstream.circuit) == (None, None)
