# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the upstream of a mirror index: connections, credentials, retries and errors. config.py has the timeouts."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import BinaryIO, NamedTuple

import httpx

from . import config
from .certificates import ssl_context
from .compression import decompressed
from .credentials import Credentials
from .metrics.upstream import Record, ignore
from .proxies import ProxyTransport

# Statuses with which the upstream denies a page or a file.
DENIED = (401, 403, 404, 410)
# Statuses of the upstream that clients get. Any other error is a failure of the upstream.
PASSED_ON = (*DENIED, 429)
# Attempts to connect, as name resolution can fail for a moment and a host can be restarting, and seconds before the second one.
ATTEMPTS = 3
PAUSE = 0.3
# Bytes and seconds for which the body of a redirect or an error is read, so that the connection can be reused.
UNUSED_LIMIT = 100_000
UNUSED_SECONDS = 2.0


class UpstreamError(Exception):
    """A request to the upstream failed.

    ``status`` and ``retry_after`` are the status and the header of the response to the client. ``is_outage`` is whether the
    upstream does not respond at all, and ``permits_fallback`` whether another upstream may be used in its place. The message
    has no credentials.
    """

    def __init__(
        self,
        text: str,
        status: int = 503,
        retry_after: str = "",
        *,
        is_outage: bool = False,
        is_server_error: bool = False,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.is_outage = is_outage
        self.permits_fallback = is_outage or is_server_error
        self.retry_after = retry_after or ("" if status in PASSED_ON else str(config.FAILURE_FRESHNESS))


class Received(NamedTuple):
    """A response whose body, of ``size`` bytes, is in a file.

    ``url`` is the URL after redirects, without credentials.
    """

    status: int
    headers: Mapping[str, str]
    body: BinaryIO
    size: int
    url: str


def without_secrets(url: httpx.URL) -> str:
    """Return a URL without its credentials and its query, which can have the signature of an object store."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def name_of(url: str) -> str:
    """Return a URL for messages, without secrets. Raises nothing, as the message can be about an invalid URL."""
    try:
        return without_secrets(httpx.URL(url))
    except httpx.InvalidURL:
        # The error's text can have a part of the credentials.
        return "a link that is no URL"


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
    """Yield the pieces of a body. Raises ValueError if it takes too long, as its thread is one of few."""
    end = time.monotonic() + config.TRANSFER_TIMEOUT
    for piece in pieces:
        if time.monotonic() > end:
            raise ValueError(f"the response has not arrived after {config.TRANSFER_TIMEOUT:.0f} s")
        yield piece


def limited(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise ValueError(f"the response has more than {limit:,} bytes")
        yield piece


class Truncated(httpx.SyncByteStream):
    """The start of a body that is not used. If the body ends within the limits, the connection can be reused."""

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
    # httpx itself reads the body of a redirect.
    if not response.has_redirect_location:
        # The status is known, even if the body breaks off.
        with suppress(httpx.HTTPError):
            response.read()


class Circuit:
    """Stops requests to an upstream that is unreachable, so that clients do not wait for it.

    After a failure no request is sent for FALLBACK_PAUSE seconds, and then one at a time until the upstream responds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        # Until when no request is sent, or None if the upstream is reachable, and the last failure.
        self.until: float | None = None
        self.error = ""
        self.is_probing = False

    @contextmanager
    def request(self, name: str, is_unreachable: Callable[[UpstreamError], bool]) -> Iterator[None]:
        """Send a request for ``name`` in this context. ``is_unreachable`` is whether an error shows that the upstream is.

        Raises UpstreamError before it is sent while the upstream is unreachable.
        """
        is_probe = self.admit(name)
        try:
            yield
        except UpstreamError as exc:
            # Other errors show neither that the upstream is reachable nor that it is not.
            if is_unreachable(exc):
                self.open(str(exc))
            raise
        else:
            self.close()
        finally:
            if is_probe:
                self.is_probing = False

    def open(self, error: str) -> None:
        """Record that the upstream is unreachable."""
        with self.lock:
            if self.until is None:
                print(f"The fallback is used until the upstream responds: {error}", flush=True)
            self.until, self.error = self.clock() + config.FALLBACK_PAUSE, error

    def close(self) -> None:
        """Record that the upstream responds."""
        with self.lock:
            if self.until is not None:
                print("The upstream responds again, and is used instead of its fallback", flush=True)
            self.until = None

    def admit(self, name: str) -> bool:
        """Return whether a request probes an unreachable upstream. Raises UpstreamError if it must not be sent."""
        with self.lock:
            if self.until is None:
                return False
            if self.is_probing or self.clock() < self.until:
                raise UpstreamError(
                    f"could not download {name}: the upstream was unreachable lately ({self.error})", is_outage=True
                )
            self.is_probing = True
            return True


class Upstream:
    """HTTP clients for the upstream of an index, whose connections are reused and limited in number.

    Files have separate connections, so that pages do not wait for slow downloads. ``circuit`` is given if the upstream has a
    fallback. ``record`` is called with the result of each request and the seconds until then.
    """

    def __init__(
        self, url: str, authorization: str = "", circuit: Circuit | None = None, record: Record = ignore
    ) -> None:
        self.record = record
        self.url = url.rstrip("/") + "/"
        self.credentials = Credentials(self.url, authorization)
        self.circuit = circuit
        context = ssl_context()
        self.client = self.connect(context, config.CONNECTIONS)
        self.file_client = self.connect(context, config.FILE_CONNECTIONS)

    def connect(self, context: ssl.SSLContext, connections: int) -> httpx.Client:
        """Return a client with a maximum number of connections."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx.Client(
            transport=ProxyTransport(context, limits),
            trust_env=False,
            follow_redirects=True,
            headers={"User-Agent": "devpi.mirror", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(
                config.FALLBACK_READ_TIMEOUT if self.circuit else config.READ_TIMEOUT, connect=config.CONNECT_TIMEOUT
            ),
            # No cookies: they would be sent to other ports of a host too.
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

        ``is_file`` is whether it is a file or a part of one, for which the connections for files are used.
        """
        response = self.send(self.file_client if is_file else self.client, url, headers or {}, method)
        try:
            if response.status_code not in (200, 206, 304, 416):
                raise UpstreamError(
                    f"could not download {without_secrets(response.url)}: the upstream responded with status "
                    f"{response.status_code} {response.reason_phrase}",
                    response.status_code if response.status_code in PASSED_ON else 503,
                    retry_after(response.headers.get("Retry-After", "")),
                    is_server_error=response.status_code >= 500,
                )
            yield response
        except httpx.HTTPError as exc:
            raise failure(exc, url) from exc
        finally:
            response.close()

    def send(self, client: httpx.Client, url: str, headers: Mapping[str, str], method: str) -> httpx.Response:
        """Return the response to a request, unless the upstream was unreachable lately. Raises UpstreamError."""
        # Other origins that a page links to can be reachable while the upstream is not.
        if self.circuit is None or not self.credentials.belong_to(url):
            return self.attempt(client, url, headers, method)
        with self.circuit.request(name_of(url), self.is_unreachable):
            return self.attempt(client, url, headers, method)

    def is_unreachable(self, error: UpstreamError) -> bool:
        """Return whether an error shows that the upstream does not respond. A redirect can lead to another origin."""
        cause = error.__cause__
        is_own = not isinstance(cause, httpx.RequestError) or self.credentials.belong_to(str(cause.request.url))
        return error.is_outage and is_own

    def attempt(self, client: httpx.Client, url: str, headers: Mapping[str, str], method: str) -> httpx.Response:
        """Send a request, and record its result. Raises UpstreamError."""
        result = "no_response"
        start = time.monotonic()
        try:
            response = self.retry(client, url, headers, method)
            result = f"{response.status_code // 100}xx"
            return response
        finally:
            self.record(result, time.monotonic() - start)

    def retry(self, client: httpx.Client, url: str, headers: Mapping[str, str], method: str) -> httpx.Response:
        """Send a request, and retry if connecting fails or the connection ends before a response. Raises UpstreamError."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                request = client.build_request(method, url, headers=dict(headers))
                return client.send(request, stream=True)
            except (httpx.NetworkError, httpx.RemoteProtocolError) as exc:
                if attempt == ATTEMPTS:
                    raise failure(exc, url) from exc
                time.sleep(PAUSE * attempt)
            except httpx.InvalidURL as exc:
                # The error's text can have a part of the credentials.
                raise UpstreamError("the upstream has a link that is no URL") from exc
            except httpx.HTTPError as exc:
                raise failure(exc, url) from exc
        raise AssertionError("unreachable")

    def get(self, url: str, limit: int = config.PAGE_LIMIT) -> bytes:
        """Return the expanded body of a response, of at most ``limit`` bytes. Raises UpstreamError."""
        with self.stream(url, {"Accept-Encoding": "gzip"}) as response:
            return b"".join(self.pieces_of(response, limit))

    def receive(self, url: str, headers: Mapping[str, str], body: BinaryIO, limit: int = config.PAGE_LIMIT) -> Received:
        """Return a response whose expanded body, of at most ``limit`` bytes, is written to ``body``.

        Raises UpstreamError, and OSError if the disk is full.
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
            raise UpstreamError(f"could not download {without_secrets(response.url)}: {exc}") from exc


def retry_after(value: str) -> str:
    """Return the value of a Retry-After header if it is valid, in seconds or as a date, or an empty text."""
    return value if re.fullmatch("[0-9]{1,9}|[A-Za-z]{3}, [0-9A-Za-z: ]{1,40}", value) else ""


def failure(exc: Exception, url: str) -> UpstreamError:
    name = without_secrets(httpx.URL(url))
    if isinstance(exc, httpx.PoolTimeout):
        return UpstreamError(f"could not download {name}: all connections to the upstream are in use")
    # Other errors, such as a redirect loop, do not affect other pages.
    is_outage = isinstance(
        exc, (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
    )
    return UpstreamError(
        f"could not download {name}: the upstream can't be reached ({str(exc) or type(exc).__name__})",
        is_outage=is_outage,
    )
