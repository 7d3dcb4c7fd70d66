"""Requests to the upstream of a mirror index: its connections, limits and errors."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import BinaryIO, NamedTuple

import httpx

from . import config
from .compression import decompressed
from .credentials import Credentials
from .proxies import ProxyTransport

# What the upstream says about a request, which the client is to know. Anything else is a failure of the upstream.
PASSED_ON = (401, 403, 404, 410, 429)
# Of a host whose name can't be resolved for a moment, or that is being restarted.
ATTEMPTS = 3
# Bytes of the body of a redirect or an error, and seconds, for which it is read so that the connection can be used again.
UNUSED_LIMIT = 100_000
UNUSED_SECONDS = 2.0
# Seconds that a page or core metadata may take, however slowly it arrives.
TRANSFER_LIMIT = 60.0
PAUSE = 0.3


class UpstreamError(Exception):
    """The upstream has no response that can be used.

    ``status`` is the one for the client, ``retry_after`` the value of that header or an empty text. The text says what failed,
    and has no credentials. ``is_outage`` is whether the upstream does not respond at all.
    """

    def __init__(self, text: str, status: int = 503, retry_after: str = "", *, is_outage: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.is_outage = is_outage
        self.retry_after = retry_after or ("" if status in PASSED_ON else str(config.FAILURE_FRESHNESS))


class Received(NamedTuple):
    """A response whose body, of ``size`` bytes, is in a file.

    ``url`` is where it comes from after redirects, without credentials.
    """

    status: int
    headers: Mapping[str, str]
    body: BinaryIO
    size: int
    url: str


def ssl_context() -> ssl.SSLContext:
    """Return the context that devpi uses: its bundle of certificate authorities is that of the host."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle if bundle and os.path.exists(bundle) else None)


def without_secrets(url: httpx.URL) -> str:
    """Return a URL without what can be a secret: its user, and the query, which signs the URLs of object stores."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def expanded(pieces: Iterable[bytes], encoding: str, limit: int) -> Iterator[bytes]:
    """Yield the pieces of a body, expanded if it is compressed. Raises ValueError for more than ``limit`` bytes."""
    if encoding in ("", "identity"):
        steps = iter(pieces)
    elif encoding in ("gzip", "x-gzip"):
        steps = decompressed(limited(pieces, limit))
    else:
        raise ValueError(f"the encoding {encoding!r} was not requested")
    return limited(steps, limit)


def in_time(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body. Raises ValueError if it takes too long, as others wait for the thread that reads it."""
    end = time.monotonic() + TRANSFER_LIMIT
    for piece in pieces:
        if time.monotonic() > end:
            raise ValueError(f"the response has not arrived after {TRANSFER_LIMIT:.0f} s")
        yield piece


def limited(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ValueError(f"the response has more than {limit:,} bytes")
        yield piece


class Truncated(httpx.SyncByteStream):
    """The start of a body that nothing uses. If that is all of it, the connection can be used again."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        end = time.monotonic() + UNUSED_SECONDS
        for piece in self.stream:
            yield piece
            size += len(piece)
            if size > UNUSED_LIMIT or time.monotonic() > end:
                return

    def close(self) -> None:
        self.stream.close()


def discard_body(response: httpx.Response) -> None:
    """Read the body of a response that is neither a file nor a page, within limits and without expanding it."""
    if response.status_code in (200, 206) or not isinstance(response.stream, httpx.SyncByteStream):
        return
    response.headers.pop("Content-Encoding", None)
    response.stream = Truncated(response.stream)
    # httpx reads that of a redirect itself.
    if not response.has_redirect_location:
        # The status counts, however the body ends.
        with suppress(httpx.HTTPError):
            response.read()


class Upstream:
    """HTTP clients for the upstream of an index, whose connections are reused and limited in number.

    Files have connections of their own, so that pages do not wait for slow downloads.
    """

    def __init__(self, url: str, authorization: str = "") -> None:
        self.url = url.rstrip("/") + "/"
        self.credentials = Credentials(self.url, authorization)
        context = ssl_context()
        self.client = self.connect(context, config.CONNECTIONS)
        self.file_client = self.connect(context, config.FILE_CONNECTIONS)

    def connect(self, context: ssl.SSLContext, connections: int) -> httpx.Client:
        """Return a client with at most so many connections."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.Client(
            transport=ProxyTransport(context, limits),
            trust_env=False,
            follow_redirects=True,
            headers={"User-Agent": "devpi.mirror", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(config.READ_LIMIT, connect=config.CONNECT_LIMIT),
            # A cookie would be sent to other ports of a host too.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"request": [self.credentials.authenticate], "response": [discard_body]},
        )

    def close(self) -> None:
        self.client.close()
        self.file_client.close()

    @contextmanager
    def stream(
        self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET", *, is_file: bool = False
    ) -> Iterator[httpx.Response]:
        """Open a response with status 200, 206, 304 or 416, whose body is read with ``iter_raw``. Raises UpstreamError.

        ``is_file`` is whether it is a file or a part of one, which uses the connections for files.
        """
        response = self.send(self.file_client if is_file else self.client, url, headers or {}, method)
        try:
            if response.status_code not in (200, 206, 304, 416):
                raise UpstreamError(
                    f"the upstream answers {response.status_code} {response.reason_phrase} to {without_secrets(response.url)}",
                    response.status_code if response.status_code in PASSED_ON else 503,
                    retry_after(response.headers.get("Retry-After", "")),
                )
            yield response
        except httpx.HTTPError as exc:
            raise failure(exc, url) from exc
        finally:
            response.close()

    def send(self, client: httpx.Client, url: str, headers: Mapping[str, str], method: str) -> httpx.Response:
        """Send a request, and again if no connection can be made or it ends before a response. Raises UpstreamError."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                request = client.build_request(method, url, headers=dict(headers))
                return client.send(request, stream=True)
            except (httpx.NetworkError, httpx.RemoteProtocolError) as exc:
                if attempt == ATTEMPTS:
                    raise failure(exc, url) from exc
                time.sleep(PAUSE * attempt)
            except httpx.InvalidURL as exc:
                # Its text can have a part of the credentials.
                raise UpstreamError("the upstream has a link that is no URL") from exc
            except httpx.HTTPError as exc:
                raise failure(exc, url) from exc
        raise AssertionError("unreachable")

    def get(self, url: str, limit: int = config.PAGE_LIMIT) -> bytes:
        """Return the expanded body of a response, of at most ``limit`` bytes. Raises UpstreamError."""
        with self.stream(url, {"Accept-Encoding": "gzip"}) as response:
            return b"".join(self.pieces_of(response, limit))

    def receive(self, url: str, headers: Mapping[str, str], body: BinaryIO, limit: int = config.PAGE_LIMIT) -> Received:
        """Return a response whose expanded body, of at most ``limit`` bytes, is written to a file.

        Raises UpstreamError, and OSError if the file has no room for it.
        """
        size = 0
        with self.stream(url, {"Accept-Encoding": "gzip", **headers}) as response:
            for piece in self.pieces_of(response, limit):
                size += len(piece)
                body.write(piece)
        body.seek(0)
        own_url = str(response.url.copy_with(userinfo=b""))
        return Received(response.status_code, response.headers, body, size, own_url)

    def pieces_of(self, response: httpx.Response, limit: int) -> Iterator[bytes]:
        """Yield the expanded body of a response, unless it was discarded. Raises UpstreamError."""
        if response.status_code not in (200, 206):
            return
        encoding = str(response.headers.get("Content-Encoding", "")).strip().lower()
        try:
            yield from expanded(in_time(response.iter_raw()), encoding, limit)
        except ValueError as exc:
            raise UpstreamError(f"{exc}, getting {without_secrets(response.url)}") from exc


def retry_after(value: str) -> str:
    """Return the value of a Retry-After header if it is one, in seconds or as a date."""
    return value if re.fullmatch("[0-9]{1,9}|[A-Za-z]{3}, [0-9A-Za-z: ]{1,40}", value) else ""


def failure(exc: Exception, url: str) -> UpstreamError:
    name = without_secrets(httpx.URL(url))
    if isinstance(exc, httpx.PoolTimeout):
        return UpstreamError(f"all connections to the upstream are in use, getting {name}")
    # Others, such as a redirect loop, say nothing about other pages.
    is_outage = isinstance(
        exc, (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
    )
    return UpstreamError(
        f"the upstream can't be reached ({str(exc) or type(exc).__name__}), getting {name}", is_outage=is_outage
    )
