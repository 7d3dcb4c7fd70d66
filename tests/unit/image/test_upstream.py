# SPDX-License-Identifier: GPL-3.0-or-later
"""How the image's upstream.py sends requests to an upstream, and handles its responses."""

from __future__ import annotations

import base64
import gzip
import io
import socket
from contextlib import ExitStack, suppress

import httpx
import pytest
from devpi_mirror import upstream
from devpi_mirror.upstream import Upstream, UpstreamError
from fake_upstream import serving

BASIC = "Basic " + base64.b64encode(b"bob:s3cr%t@x").decode()


@pytest.fixture
def client():
    """Return a function that opens an upstream, which is closed at the end."""
    opened = []

    def connect(server, authorization=""):
        opened.append(Upstream(getattr(server, "url", server), authorization))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def test_credentials_are_sent_to_their_origin_alone(client):
    with serving(lambda handler: handler.send(200)) as other, serving(lambda handler: handler.send(200)) as server:
        own = client(server, BASIC)
        own.get(server.url)
        own.get(other.url)
        assert server.requests[0][2]["Authorization"] == BASIC
        assert "Authorization" not in other.requests[0][2]


def test_credentials_do_not_follow_a_redirect_to_another_origin(client):
    with serving(lambda handler: handler.send(200, b"there")) as other:
        with serving(lambda handler: handler.send(302, Location=other.url)) as server:
            body = io.BytesIO()
            received = client(server, BASIC).receive(server.url, {}, body)
        assert (received.status, body.getvalue(), received.size, received.url) == (200, b"there", 5, other.url)
        assert "Authorization" not in other.requests[0][2]


def test_the_body_of_a_redirect_does_not_fill_the_memory(client):
    bomb = gzip.compress(bytes(100_000_000))

    def answer(handler):
        if handler.path == "/there":
            handler.send(200, b"there")
        else:
            handler.send(302, bomb, Location="/there", Content_Encoding="gzip")

    with serving(answer) as server:
        assert client(server).get(server.url) == b"there"


def test_connections_are_reused(client):
    with serving(lambda handler: handler.send(200, b"x" * 10_000)) as server:
        own = client(server)
        for _request in range(5):
            own.get(server.url)
        assert len(server.connections) == 1


def test_pages_do_not_wait_for_files(client):
    with serving(lambda handler: handler.send(200, b"x" * 10_000_000)) as server, ExitStack() as files:
        own = client(server)
        for _file in range(upstream.config.FILE_CONNECTIONS):
            files.enter_context(own.stream(server.url, is_file=True))
        assert own.get(server.url) == b"x" * 10_000_000


def test_more_requests_than_connections_are_no_outage(client, monkeypatch):
    monkeypatch.setattr(upstream.config, "CONNECTIONS", 1)
    with serving(lambda handler: handler.send(200, b"x" * 10_000_000)) as server:
        own = client(server)
        with own.stream(server.url):
            own.client.timeout = httpx.Timeout(0.01)
            with pytest.raises(UpstreamError, match="all connections to the upstream") as caught:
                own.get(server.url)
    assert (caught.value.status, caught.value.is_outage) == (503, False)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_a_compressed_response_is_expanded(client, encoding):
    with serving(lambda handler: handler.send(200, gzip.compress(b"page"), Content_Encoding=encoding)) as server:
        assert client(server).get(server.url) == b"page"


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (gzip.compress(bytes(2_000_001)), "gzip", "more than 2,000,000 bytes"),
        (bytes(2_000_001), "identity", "more than 2,000,000 bytes"),
        (gzip.compress(b"") * 200_000, "gzip", "more than 2,000,000 bytes"),
        (gzip.compress(b"page" * 100)[:-9], "gzip", "truncated"),
        (b"page", "gzip", "corrupt"),
        (b"page", "br", "'br' was not requested"),
    ],
)
def test_a_body_that_can_not_be_read_is_an_error(client, body, encoding, reason):
    with serving(lambda handler: handler.send(200, body, Content_Encoding=encoding)) as server:
        own = client(server)
        with pytest.raises(UpstreamError, match=reason) as caught:
            own.get(server.url, limit=2_000_000)
    assert (caught.value.status, caught.value.retry_after) == (503, "10")


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, (401, "")),
        (403, {}, (403, "")),
        (404, {}, (404, "")),
        (410, {}, (410, "")),
        (429, {"Retry_After": "120"}, (429, "120")),
        (429, {"Retry_After": "Fri, 31 Dec 1999 23:59:59 GMT"}, (429, "Fri, 31 Dec 1999 23:59:59 GMT")),
        (429, {"Retry_After": "x; y"}, (429, "")),
        (500, {}, (503, "10")),
        (503, {"Retry_After": "7"}, (503, "7")),
        (418, {}, (503, "10")),
    ],
)
def test_the_status_and_retry_after_of_the_upstream_are_passed_on(client, status, headers, expected):
    with serving(lambda handler: handler.send(status, b"no", **headers)) as server:
        own = client(server)
        with pytest.raises(UpstreamError, match=f"responded with status {status} ") as caught:
            own.get(server.url)
    assert (caught.value.status, caught.value.retry_after) == expected


def test_a_failed_connection_is_retried(client, monkeypatch):
    monkeypatch.setattr(upstream, "PAUSE", 0)
    attempts = []

    def resolve(*arguments, **_options):
        attempts.append(arguments[0])
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UpstreamError, match="Temporary failure in name resolution") as caught:
        client("http://upstream.invalid/simple/").get("http://upstream.invalid/simple/alpha/")
    assert (caught.value.status, len(attempts)) == (503, upstream.ATTEMPTS)


def test_an_interrupted_body_is_an_error(client):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True

    with serving(answer) as server, pytest.raises(UpstreamError, match="can't be reached"):
        client(server).get(server.url)


@pytest.mark.parametrize("url", ["http://[/", "nonsense", "ftp://a.example/"])
def test_a_url_that_can_not_be_requested_is_an_error(client, url):
    with pytest.raises(UpstreamError):
        client("http://upstream.invalid/").get(url)


@pytest.mark.parametrize("status", [200, 206, 304, 404, 416, 500])
def test_connections_are_reused_after_each_status(client, status):
    with serving(lambda handler: handler.send(status, b"" if status == 304 else b"x" * 1000)) as server:
        own = client(server)
        for _request in range(5):
            with suppress(UpstreamError):
                own.get(server.url)
        assert len(server.connections) == 1


def test_an_error_with_an_interrupted_body_has_its_status(client):
    def answer(handler):
        handler.send_response(404)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.close_connection = True

    with serving(answer) as server, pytest.raises(UpstreamError) as caught:
        client(server).get(server.url)
    assert caught.value.status == 404


def test_cookies_are_not_sent_again(client):
    with serving(lambda handler: handler.send(200, b"page", Set_Cookie="session=1; Path=/")) as server:
        own = client(server)
        for _request in range(2):
            own.get(server.url)
        assert "Cookie" not in server.requests[1][2]


def test_a_request_is_sent_again_if_its_connection_ends(client, monkeypatch):
    monkeypatch.setattr(upstream, "PAUSE", 0)

    def answer(handler):
        if len(handler.server.requests) == 2:
            handler.close_connection = True
        else:
            handler.send(200, b"page")

    with serving(answer) as server:
        own = client(server)
        assert [own.get(server.url) for _request in range(2)] == [b"page"] * 2
        assert len(server.requests) == 3


def test_a_redirect_loop_is_no_outage(client):
    redirect_loop = serving(lambda handler: handler.send(302, Location=handler.path))
    with redirect_loop as server, pytest.raises(UpstreamError) as caught:
        client(server).get(server.url)
    assert (caught.value.status, caught.value.is_outage) == (503, False)


def test_a_response_that_arrives_too_slowly_is_an_error(client, monkeypatch):
    monkeypatch.setattr(upstream.config, "TRANSFER_TIMEOUT", 0)
    too_slow = pytest.raises(UpstreamError, match="has not arrived")
    with too_slow, serving(lambda handler: handler.send(200, b"x" * 1_000_000)) as server:
        client(server).get(server.url)


def test_all_members_of_a_compressed_response_are_expanded(client):
    content = gzip.compress(b"one") + gzip.compress(b"two" * 1_000_000)
    with serving(lambda handler: handler.send(200, content, Content_Encoding="gzip")) as server:
        assert client(server).get(server.url) == b"one" + b"two" * 1_000_000


@pytest.mark.parametrize(("value", "passed_on"), [("77", "77"), ("\u0661", ""), ("soon", "")])
def test_a_valid_retry_after_is_passed_on(value, passed_on):
    assert upstream.retry_after(value) == passed_on


def test_errors_have_no_secrets(client, monkeypatch):
    monkeypatch.setattr(upstream, "PAUSE", 0)
    for url in ("http://bob:s3cret@127.0.0.1:9/x?signature=s3cret", "http://[bob:s3cret"):
        with pytest.raises(UpstreamError) as caught:
            client("http://127.0.0.1:9/").get(url)
        assert "s3cret" not in str(caught.value)


def test_httpx_has_the_attributes_that_the_package_uses():
    assert issubclass(upstream.Truncated, httpx.SyncByteStream)
