# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe a devpi server over HTTP, and return a typed result.

Private to the collection. It relies on devpi's ``GET /+api`` and ``GET /<user>/<index>/+api``, which return JSON with the
header ``X-Devpi-Server-Version``, and on simple pages in JSON (PEP 691).
"""

from __future__ import annotations

import base64
import copy
import errno
import hashlib
import http.client
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache
from typing import Any, Callable, Iterable, Mapping
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from ansible_collections.devpi.mirror.plugins.module_utils import _host
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask

LEVELS = ("api", "index", "project", "file", "in_sync", "absent")

READY = "ready"
REFUSED = "refused"
UNREACHABLE = "unreachable"
TOO_SLOW = "too_slow"
TLS = "tls"
OTHER_SERVICE = "other_service"
SERVER_ERROR = "server_error"
UNAUTHORIZED = "unauthorized"
NO_INDEX = "no_such_index"
NO_PROJECT = "no_such_project"
UPSTREAM = "upstream_unreachable"
DAMAGED = "damaged_file"
NOT_IN_SYNC = "not_in_sync"

# Failures that waiting does not resolve, if they persist for a moment: a server that has just started can return them too.
DEFINITIVE = frozenset([TLS, UNAUTHORIZED, NO_INDEX])

# By how many seconds the clock of a replica may be ahead of its primary's, and behind it. devpi refuses others with status 403.
CLOCK_AHEAD = 1
CLOCK_BEHIND = 37

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
# The hash algorithms that a page can name (PEP 691) and whose digests have a fixed length.
_HASHES = hashlib.algorithms_available - {"shake_128", "shake_256"}
_CHUNK = 1 << 16
_PAGE_LIMIT = 1 << 26

# The options of the documentation fragment "connection".
CONNECTION_OPTIONS: dict[str, Any] = {
    "url": {"type": "str", "default": "http://127.0.0.1:3141"},
    "request_timeout": {"type": "float", "default": 10},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
}
# The options of the documentation fragment "probe".
PROBE_OPTIONS: dict[str, Any] = {"index": {"type": "str", "default": "root/pypi"}, "listener_uid": {"type": "int"}}
# The characters that devpi rejects in names of users and indexes.
_INVALID_CHARACTERS = re.compile(r"""[\x00-\x20!"#$%&'()*+,/:;<=>?\[\\\]^`{|}~]""")
CONNECTION_REQUIRED_TOGETHER = [("url_username", "url_password")]


@dataclass(frozen=True)
class ClockOffset:
    """By how many seconds this host's clock is ahead of a server's, at least and at most. Negative if it is behind."""

    least: float
    most: float

    @property
    def seconds(self) -> float:
        return round((self.least + self.most) / 2, 1)

    @property
    def problem(self) -> str:
        """Why the server does not accept this host as its replica, empty if it does."""
        if self.least <= CLOCK_AHEAD and self.most >= -CLOCK_BEHIND:
            return ""
        return (
            f"the clock of this host is {abs(self.seconds)} s {'ahead of' if self.seconds > 0 else 'behind'} that of the "
            f"primary, and devpi replicates only to a clock that is at most {CLOCK_AHEAD} s ahead and {CLOCK_BEHIND} s behind"
        )


def clock_offset(date: str, sent: float, received: float) -> ClockOffset | None:
    """Return the offset of this host's clock from the header Date of a response, None if that is invalid.

    ``sent`` and ``received`` are this host's times before the request and after the response. The server has cut off the
    fraction of its second.
    """
    parts = parsedate_tz(date)
    try:
        second = None if parts is None else mktime_tz(parts)
    except (ValueError, OverflowError):
        return None
    return None if second is None else ClockOffset(sent - (second + 1), received - second)


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe.

    ``kind`` is one of the constants above, ``detail`` describes it in one line. The other fields are what the server reported
    until the probe ended: ``simpleindex`` is an absolute URL, ``file`` the name of a file, ``clock`` the offset of this host's,
    ``lag`` the number of changes that a replica lacks.
    """

    kind: str
    detail: str
    version: str | None = None
    uuid: str | None = None
    serial: int | None = None
    simpleindex: str | None = None
    file: str | None = None
    clock: ClockOffset | None = None
    lag: int | None = None


@dataclass
class Response:
    """An HTTP response: ``status``, lower-case ``headers``, the ``body`` or its ``digests``, and its ``size`` in bytes."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    digests: dict[str, str] = field(default_factory=dict)
    size: int = 0

    @property
    def is_devpi(self) -> bool:
        return "x-devpi-server-version" in self.headers

    @property
    def is_upstream_failure(self) -> bool:
        """Whether devpi reports a failure of its upstream. A 503 that is not from devpi is from a proxy in front of it."""
        return self.status in (502, 504) or (self.status == 503 and self.is_devpi)


class ProbeError(Exception):
    """A probe failed. ``kind`` and ``detail`` are those of :class:`ProbeResult`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address is a loopback address of this host."""
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or host.startswith("127.")


def check_url(url: str) -> str:
    """Return the base URL of a server without a trailing slash.

    Raises ValueError, with the reason, for anything but ``http(s)://HOST[:PORT][/PATH]``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ValueError(f"{mask(url)!r} is not a valid URL: {exc}") from exc
    is_server = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not is_server or parts.query or parts.fragment or any(c.isspace() for c in url):
        raise ValueError(f"{mask(url)!r} is not a valid URL: use the form http://localhost:3141")
    if parts.username or parts.password:
        raise ValueError("the URL must not contain credentials: use url_username and url_password")
    return url.rstrip("/")


def is_name(name: str) -> bool:
    """Return whether devpi accepts the name of a user, or that of an index without its user."""
    return name not in ("", ".", "..") and not _INVALID_CHARACTERS.search(name)


def check_index(index: str) -> str:
    """Return the name of an index, ``user/index``, without slashes around it. Raises ValueError for anything else."""
    parts = index.strip("/").split("/")
    if len(parts) != 2 or not all(map(is_name, parts)):
        raise ValueError(f"{index!r} is not a valid index: use the form root/pypi")
    return "/".join(parts)


def classify_error(exc: BaseException) -> ProbeError:
    """Return the ProbeError for an error of the network."""
    reason: Any = getattr(exc, "reason", exc)
    if isinstance(reason, ssl.SSLError):
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ProbeError(TLS, "its certificate is not trusted: " + getattr(reason, "verify_message", str(reason)))
        if "timed out" in str(reason):
            return ProbeError(TOO_SLOW, "the request timed out")
        return ProbeError(TLS, f"TLS handshake failed: {getattr(reason, 'reason', None) or reason}")
    # "localhost" can resolve to the IPv6 loopback address on a host without IPv6.
    if isinstance(reason, ConnectionRefusedError) or getattr(reason, "errno", None) == errno.EADDRNOTAVAIL:
        return ProbeError(REFUSED, "connection refused")
    # systemd, listening for a server that does not run, accepts the connection and closes it.
    if isinstance(reason, ConnectionResetError):
        return ProbeError(REFUSED, "the connection was closed without a complete response")
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return ProbeError(TOO_SLOW, "the request timed out")
    if isinstance(reason, socket.gaierror):
        return ProbeError(UNREACHABLE, f"its host name can't be resolved: {reason.strerror}")
    if isinstance(reason, OSError):
        return ProbeError(UNREACHABLE, f"the connection failed: {reason.strerror or reason}")
    # The errors of http.client.
    return ProbeError(OTHER_SERVICE, f"the response is not valid HTTP ({type(reason).__name__})")


class _TlsHandler(AbstractHTTPHandler):
    """Opens https URLs. The context is created for the first one, as reading the system's authorities takes 25 ms.

    A server with an http URL can redirect to https, and its pages can link to it.
    """

    def __init__(self, create_context: Callable[[], ssl.SSLContext]) -> None:
        super().__init__()
        self.context = lru_cache(maxsize=None)(create_context)

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(http.client.HTTPSConnection, request, context=self.context())

    https_request = AbstractHTTPHandler.do_request_


class Client:
    """An HTTP client for one server. ``headers`` are sent to that server only."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        tls: _TlsHandler | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = check_url(url)
        self._deadline = float("inf")
        self._headers = dict(headers or {})
        self._clock = clock
        # A proxy can't reach the loopback addresses of this host, even if the environment configures one.
        is_local = is_loopback(urlsplit(url).hostname or "")
        self._opener = OpenerDirector()
        # Not build_opener, whose handlers also open file:, data: and ftp: URLs. A page can link to any URL.
        for handler in (
            ProxyHandler({} if is_local else None),
            HTTPHandler(),
            tls or _TlsHandler(lambda: tls_context(None, True)),
            HTTPRedirectHandler(),
            HTTPErrorProcessor(),
            HTTPDefaultErrorHandler(),
            UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def with_deadline(self, seconds: float) -> Client:
        """Return a copy of this client whose requests must all be completed ``seconds`` from now."""
        limited = copy.copy(self)
        limited._deadline = self._clock() + seconds
        return limited

    def get(self, url: str, accept: str, digests: list[str] | None = None) -> Response:
        """Request ``url``. With names of hash algorithms, the response has the digests of the body instead of the body.

        Raises ProbeError if there is no complete response before the deadline.
        """
        return self._send(url, {"Accept": accept}, digests=digests)

    def send_json(self, method: str, path: str, body: Any = None) -> Response:
        """Send a request with a JSON body, if there is one, and return the response with any status. Raises ProbeError."""
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode("utf-8")
        return self._send(self.url + path, headers, method, data)

    def send_stream(self, path: str, chunks: Iterable[bytes], size: int, content_type: str) -> Response:
        """Send a POST request with a body of ``size`` bytes in chunks, and return the response with any status.

        Raises ProbeError.
        """
        headers = {"Accept": "application/json", "Content-Type": content_type, "Content-Length": str(size)}
        return self._send(self.url + path, headers, "POST", chunks)

    def _send(
        self,
        url: str,
        headers: dict[str, str],
        method: str = "GET",
        data: bytes | Iterable[bytes] | None = None,
        digests: list[str] | None = None,
    ) -> Response:
        # The opener has no handlers for other schemes than HTTP.
        request = Request(url, data, {"User-Agent": "devpi.mirror", **headers}, method=method)  # noqa: S310
        if url.startswith(self.url + "/"):
            for name, value in self._headers.items():
                # Not sent to the target of a redirect: these are credentials.
                request.add_unredirected_header(name, value)
        try:
            with self._open(request) as response:
                if response.status >= 400:
                    return Response(response.status, _lowered(response.headers), response.read(_CHUNK))
                return self._read(response, digests)
        except (OSError, http.client.HTTPException) as exc:
            raise classify_error(exc) from exc

    def _open(self, request: Request) -> Any:
        """Return the response, with any status."""
        try:
            return self._opener.open(request, timeout=self._left())
        except HTTPError as exc:
            return exc
        except UnicodeError as exc:
            raise ProbeError(
                UNREACHABLE, f"{mask(urlsplit(request.full_url).netloc)} is not a valid host name"
            ) from exc
        except ValueError as exc:
            raise ProbeError(OTHER_SERVICE, f"it redirects to an invalid URL: {exc}") from exc

    def _left(self) -> float:
        left = self._deadline - self._clock()
        if left <= 0:
            raise ProbeError(TOO_SLOW, "the request timed out")
        # A socket accepts no infinite timeout.
        return min(left, 86400.0)

    def _read(self, response: Any, digests: list[str] | None) -> Response:
        result = Response(response.status, _lowered(response.headers))
        hashes = {name: hashlib.new(name) for name in digests or []}
        parts: list[bytes] = []
        while True:
            self._left()
            chunk = response.read1(_CHUNK)
            if not chunk:
                break
            result.size += len(chunk)
            for digest in hashes.values():
                digest.update(chunk)
            if digests is None:
                if result.size > _PAGE_LIMIT:
                    raise ProbeError(OTHER_SERVICE, "the response is too large for a page")
                parts.append(chunk)
        expected = _number(result.headers.get("content-length", ""))
        if expected is not None and expected != result.size:
            raise ProbeError(UNREACHABLE, f"the response ended after {result.size:,} of {expected:,} bytes")
        result.body = b"".join(parts)
        result.digests = {name: digest.hexdigest() for name, digest in hashes.items()}
        return result


def _number(text: str) -> int | None:
    """Return the value of a numeric header, None if it is invalid."""
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None


def _parse(body: bytes) -> Any:
    """Return the value of a JSON document. Raises ValueError for anything else."""
    try:
        return json.loads(body.decode("utf-8"))
    except RecursionError as exc:
        raise ValueError("the document is nested too deeply") from exc


def _lowered(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def probe(client: Client, level: str, index: str, project: str, listener_uid: int | None = None) -> ProbeResult:
    """Probe the server once, up to ``level``. Never raises an exception because of what the server does.

    With ``listener_uid`` and a loopback URL, no other user may listen on the URL's port of either loopback address.
    """
    known: dict[str, Any] = {}
    try:
        if listener_uid is not None:
            _check_listener(client, listener_uid)
        _probe_api(client, known)
        if level in ("api", "absent"):
            return ProbeResult(READY, f"devpi-server {known['version']} responds", **known)
        if level == "in_sync":
            return ProbeResult(READY, _probe_replication(client, known), **known)
        _probe_index(client, index, known)
        if level == "index":
            return ProbeResult(READY, f"index {index} exists", **known)
        files = _probe_project(client, index, project)
        if level == "project":
            return ProbeResult(READY, f"index {index} lists {len(files)} files of {project}", **known)
        size = _probe_file(client, files, known)
        return ProbeResult(
            READY, f"downloaded {known['file']} through the mirror ({size:,} bytes, hash matches)", **known
        )
    except ProbeError as exc:
        return ProbeResult(exc.kind, exc.detail, **known)


def _check_listener(client: Client, uid: int) -> None:
    url = urlsplit(client.url)
    if not is_loopback(url.hostname or ""):
        return
    found = _host.listener(url.port or (443 if url.scheme == "https" else 80), _host.LOOPBACK, uid)
    if found is not None:
        process = "" if found.pid is None else f" with {found.program} (process {found.pid})"
        raise ProbeError(
            OTHER_SERVICE, f"the user with UID {found.uid} listens on that port of {found.address}{process}"
        )


def _probe_api(client: Client, known: dict[str, Any]) -> None:
    sent = time.time()
    response = client.get(client.url + "/+api", "application/json")
    known["clock"] = clock_offset(response.headers.get("date", ""), sent, time.time())
    # devpi-server itself requires no login here, but a proxy in front of it can.
    if response.status in (401, 403):
        raise ProbeError(UNAUTHORIZED, f"it requires a login (status {response.status})")
    if response.status in (500, 502, 503, 504):
        raise ProbeError(SERVER_ERROR, f"it responds with status {response.status}")
    if not response.is_devpi or response.status != 200:
        server = response.headers.get("server", "an unknown program")
        raise ProbeError(OTHER_SERVICE, f"{server} responds (status {response.status}), not devpi")
    _read_headers(response, known)


def _read_headers(response: Response, known: dict[str, Any]) -> None:
    headers = response.headers
    known["version"] = headers.get("x-devpi-server-version")
    known["uuid"] = headers.get("x-devpi-uuid")
    known["serial"] = _number(headers.get("x-devpi-serial", ""))


def _probe_replication(client: Client, known: dict[str, Any]) -> str:
    """Return a description of a server that has all changes of its primary, which each primary has."""
    response = client.get(client.url + "/+status", "application/json")
    if response.status != 200:
        raise ProbeError(SERVER_ERROR, f"it responds with status {response.status} for its status")
    try:
        status = _parse(response.body)["result"]
        role, serial = str(status["role"]).lower(), int(status["serial"])
        if role != "replica":
            return f"devpi-server is a {'primary' if role == 'master' else role} server with serial {serial}"
        primary = status["primary-serial"]
        errors = len(status.get("replication-errors") or ())
        contacted = float(status.get("update-from-primary-at") or 0)
    except (ValueError, KeyError, TypeError) as exc:
        raise ProbeError(OTHER_SERVICE, "its status is not devpi's JSON") from exc
    if primary is None or not contacted:
        raise ProbeError(NOT_IN_SYNC, "the replica has received nothing from its primary since its start")
    known["lag"] = int(primary) - serial
    if errors or serial < int(primary):
        raise ProbeError(
            NOT_IN_SYNC, f"the replica has serial {serial} of {primary}, and {errors} files could not be replicated"
        )
    return f"the replica has all changes of its primary (serial {serial})"


def _probe_index(client: Client, index: str, known: dict[str, Any]) -> None:
    response = client.get(f"{client.url}/{quote(index)}/+api", "application/json")
    if response.status in (401, 403):
        raise ProbeError(UNAUTHORIZED, f"index {index} requires a login")
    if response.status == 404:
        raise ProbeError(NO_INDEX, f"index {index} does not exist")
    if response.status != 200:
        raise ProbeError(SERVER_ERROR, f"it responds with status {response.status} for index {index}")
    try:
        known["simpleindex"] = str(_parse(response.body)["result"]["simpleindex"])
    except (ValueError, KeyError, TypeError) as exc:
        raise ProbeError(OTHER_SERVICE, f"the description of index {index} is not devpi's JSON") from exc


def _probe_project(client: Client, index: str, project: str) -> list[dict[str, Any]]:
    page = f"{client.url}/{quote(index)}/+simple/{quote(project, safe='')}/"
    response = client.get(page, SIMPLE_JSON)
    if response.status in (401, 403):
        raise ProbeError(UNAUTHORIZED, f"index {index} requires a login")
    if response.is_upstream_failure:
        raise ProbeError(UPSTREAM, f"its upstream does not provide the page of {project} ({_error_of(response)})")
    if response.status == 404:
        raise ProbeError(NO_PROJECT, f"index {index} has no project {project}")
    if response.status != 200:
        raise ProbeError(SERVER_ERROR, f"it responds with status {response.status} for the page of {project}")
    try:
        files = [
            {
                "filename": str(file["filename"]),
                "url": urljoin(page, str(file["url"])),
                "hashes": {str(name): str(value) for name, value in dict(file["hashes"]).items()},
                "yanked": file.get("yanked"),
            }
            for file in _parse(response.body)["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ProbeError(OTHER_SERVICE, f"the page of {project} is not the JSON of PEP 691") from exc
    usable = [file for file in files if set(file["hashes"]) & _HASHES]
    if not usable:
        raise ProbeError(NO_PROJECT, f"index {index} lists no files of {project}")
    return usable


def reason_of(response: Response) -> str:
    """Return the reason of an error that a mirror with this collection's image reports, empty if there is none."""
    reason = " ".join(response.body.decode("utf-8", "replace").split())
    is_text = response.headers.get("content-type", "").startswith("text/plain")
    return mask(reason) if is_text and len(reason) <= 300 else ""


def _error_of(response: Response) -> str:
    reason = reason_of(response)
    return f"status {response.status}" + (f": {reason}" if reason else "")


def choose_file(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the file to download: a wheel of the newest release, as it is small and likely to be installed soon."""

    def preference(file: dict[str, Any]) -> tuple[bool, bool, list[tuple[int, str]]]:
        name = str(file["filename"])
        release = re.search(r"-(?P<version>\d[\w.!+]*?)(?:-|\.tar|\.zip|\.whl|$)", name)
        version = release.group("version") if release else ""
        is_final = not file.get("yanked") and re.fullmatch(r"[\d.]+", version) is not None
        # Compared as text, as Python does not convert numbers of any length.
        numbers = [number.lstrip("0") for number in re.findall("[0-9]+", version)]
        return is_final, name.endswith(".whl"), [(len(number), number) for number in numbers]

    return max(files, key=preference)


def _probe_file(client: Client, files: list[dict[str, Any]], known: dict[str, Any]) -> int:
    file = choose_file(files)
    name = known["file"] = file["filename"]
    usable = sorted(set(file["hashes"]) & _HASHES)
    algorithm = "sha256" if "sha256" in usable else usable[0]
    if urlsplit(file["url"]).scheme not in ("http", "https"):
        raise ProbeError(OTHER_SERVICE, f"its page links to {mask(file['url'])}, which is not an HTTP URL")
    response = client.get(file["url"], "*/*", [algorithm])
    if response.status in (401, 403):
        raise ProbeError(UNAUTHORIZED, f"{name} requires a login")
    if response.is_upstream_failure:
        raise ProbeError(UPSTREAM, f"its upstream does not provide {name} (status {response.status})")
    if response.status != 200:
        raise ProbeError(SERVER_ERROR, f"it responds with status {response.status} for {name}")
    if response.digests[algorithm] != file["hashes"][algorithm]:
        raise ProbeError(DAMAGED, f"{name} does not match its {algorithm} hash")
    return response.size


def remedy(kind: str) -> str:
    """Return one sentence about how to resolve a failure of this kind."""
    return _REMEDIES[kind]


_REMEDIES = {
    REFUSED: (
        "Check that the container is running, read the log of the devpi service, and check the host and the port (variables "
        "devpi_mirror_host and devpi_mirror_port)."
    ),
    UNREACHABLE: "Check the host name, and the network between this host and the server.",
    TOO_SLOW: "Check the log and the load of the server, or increase the time limits.",
    TLS: "Set ca_path to the file of the certificate authority, or give the server a certificate for its host name.",
    OTHER_SERVICE: "Another program uses this port: stop it, or use another host or port.",
    SERVER_ERROR: "Check the log of the server.",
    UNAUTHORIZED: "Set url_username and url_password to those of a user who may read this index.",
    NO_INDEX: "Create the index, or use one that exists (variable devpi_mirror_index).",
    NO_PROJECT: "Use a project that the index has. If the index is a mirror, check that its upstream is reachable.",
    UPSTREAM: (
        "devpi itself is running: check its connection to the upstream (network, variables devpi_server_upstream_url, "
        "devpi_server_https_proxy and devpi_server_ca_bundle)."
    ),
    NOT_IN_SYNC: (
        "Check that the replica can reach devpi_server_primary_url, that devpi_server_replicas of the primary lists its "
        "address, that both have the same secret, and that the replica's clock is at most 1 s ahead of the primary's or 37 s "
        "behind it."
    ),
    DAMAGED: "Remove the file from the server's data directory, so that it is downloaded again.",
    READY: "Stop the server, or wait longer for it to stop.",
}


def index_from(params: Mapping[str, Any]) -> str:
    """Return the name of the index for the connection options. Raises ValueError with the name of the option."""
    try:
        return check_index(params["index"])
    except ValueError as exc:
        raise ValueError(f"index: {exc}") from exc


def client_from(params: Mapping[str, Any]) -> Client:
    """Return the client for the connection options. Raises ValueError with the name of an option."""
    if params["request_timeout"] <= 0:
        raise ValueError(f"request_timeout is {params['request_timeout']}: use a number of seconds above zero")
    headers = {}
    if params["url_username"]:
        pair = f"{params['url_username']}:{params['url_password']}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    tls = _TlsHandler(lambda: tls_context(params["ca_path"], params["validate_certs"]))
    try:
        client = Client(params["url"], headers, tls)
    except ValueError as exc:
        raise ValueError(f"url: {exc}") from exc
    if params["ca_path"] or urlsplit(client.url).scheme == "https":
        try:
            tls.context()
        except OSError as exc:
            raise ValueError(f"ca_path: could not read certificates from {params['ca_path']}: {exc}") from exc
    return client


def tls_context(ca_path: str | None, validate_certs: bool) -> ssl.SSLContext:
    """Return the TLS context. Raises OSError, of which ssl.SSLError is one, if the file has no certificates."""
    context = ssl.create_default_context(cafile=ca_path)
    # Python 3.13 checks certificates more strictly than installers do, and rejects for example authorities without a key usage,
    # which "openssl req -x509" creates.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
