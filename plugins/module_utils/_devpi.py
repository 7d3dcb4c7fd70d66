# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP conversation with devpi, turned into a typed result.

Private to the collection. What it relies on in devpi: ``GET /+api`` and ``GET /<user>/<index>/+api`` answer with
JSON, and every answer carries ``X-Devpi-Server-Version``; simple pages, when asked for as JSON, follow PEP 691.
"""

from __future__ import annotations

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
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple
from urllib.error import HTTPError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from ansible_collections.devpi.mirror.plugins.module_utils import _host
from ansible_collections.devpi.mirror.plugins.module_utils._edit import mask

LEVELS = ("api", "index", "project", "file", "absent")

READY = "ready"
REFUSED = "refused"
UNREACHABLE = "unreachable"
TOO_SLOW = "too_slow"
TLS = "tls"
OTHER_SERVICE = "other_service"
SERVER_ERROR = "server_error"
UNAUTHORISED = "unauthorised"
NO_INDEX = "no_such_index"
NO_PROJECT = "no_such_project"
UPSTREAM = "upstream_unreachable"
DAMAGED = "damaged_file"

# Waiting does not cure these. They still have to persist for a moment: a server that has just started may say so too.
DEFINITIVE = frozenset([TLS, UNAUTHORISED, NO_INDEX])

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
# Of what PEP 691 lets a page name: those whose digests have one length.
_HASHES = hashlib.algorithms_available - {"shake_128", "shake_256"}
_CHUNK = 1 << 16
_PAGE_LIMIT = 1 << 26


@dataclass(frozen=True)
class Seen:
    """What one look at a server showed.

    ``kind`` is one of the constants above, ``detail`` one line for a person. The rest is what devpi told of itself, as
    far as the look went: ``serial`` is an integer, ``simpleindex`` an absolute URL, ``file`` a file's name.
    """

    kind: str
    detail: str
    version: Optional[str] = None
    uuid: Optional[str] = None
    serial: Optional[int] = None
    simpleindex: Optional[str] = None
    file: Optional[str] = None


@dataclass
class Answer:
    """An HTTP answer: ``status``, lower-cased ``headers``, the ``body`` or its ``digests``, and its ``size`` in bytes."""

    status: int
    headers: Dict[str, str]
    body: bytes = b""
    digests: Dict[str, str] = field(default_factory=dict)
    size: int = 0

    @property
    def is_devpi(self) -> bool:
        return "x-devpi-server-version" in self.headers

    @property
    def is_upstream_failure(self) -> bool:
        """Whether devpi reports a failure of its upstream. A 503 that is not devpi's own comes from a proxy in front of it."""
        return self.status in (502, 504) or (self.status == 503 and self.is_devpi)


class Trouble(Exception):
    """A look that ended early. ``kind`` and ``detail`` are those of :class:`Seen`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's loopback."""
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or host.startswith("127.")


def check_url(url: str) -> str:
    """Return a server's base URL without a slash at its end.

    Raises ValueError, saying what is wrong, for anything but ``http(s)://HOST[:PORT][/PATH]``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ValueError("%r is no URL: %s" % (mask(url), exc)) from exc
    is_server = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not is_server or parts.query or parts.fragment or any(c.isspace() for c in url):
        raise ValueError("%r is no URL of a server: it must look like http://localhost:3141" % mask(url))
    if parts.username or parts.password:
        raise ValueError("credentials do not belong in the URL: use url_username and url_password")
    return url.rstrip("/")


def check_index(index: str) -> str:
    """Return an index name of the form ``user/index`` without slashes around it, or raise ValueError."""
    name = index.strip("/")
    if name.count("/") != 1 or not all(name.split("/")) or any(c.isspace() for c in name):
        raise ValueError("%r is no index: it must look like root/pypi" % index)
    return name


def kind_of_error(exc: BaseException) -> Trouble:
    """Sort an error of the network into one of the kinds."""
    reason: Any = getattr(exc, "reason", exc)
    if isinstance(reason, ssl.SSLError):
        if isinstance(reason, ssl.SSLCertVerificationError):
            return Trouble(TLS, "its certificate is not trusted: %s" % getattr(reason, "verify_message", reason))
        if "timed out" in str(reason):
            return Trouble(TOO_SLOW, "no answer in time")
        return Trouble(TLS, "TLS does not come about: %s" % (getattr(reason, "reason", None) or reason))
    # localhost can be the IPv6 loopback too, on a machine that has none.
    if isinstance(reason, ConnectionRefusedError) or getattr(reason, "errno", None) == errno.EADDRNOTAVAIL:
        return Trouble(REFUSED, "nothing listens on that port")
    # What listens for a server that does not run, such as systemd, accepts the connection and closes it.
    if isinstance(reason, ConnectionResetError):
        return Trouble(REFUSED, "the connection was closed without a complete response")
    if isinstance(reason, (socket.timeout, TimeoutError)):
        return Trouble(TOO_SLOW, "no answer in time")
    if isinstance(reason, socket.gaierror):
        return Trouble(UNREACHABLE, "its name can't be resolved: %s" % reason.strerror)
    if isinstance(reason, OSError):
        return Trouble(UNREACHABLE, "the connection broke: %s" % (reason.strerror or reason))
    # http.client's errors: what answered does not speak HTTP.
    return Trouble(OTHER_SERVICE, "what answers there does not speak HTTP (%s)" % type(reason).__name__)


class Client:
    """Talks to one server. ``headers`` go to it alone."""

    def __init__(
        self,
        url: str,
        headers: Optional[Mapping[str, str]] = None,
        context: Optional[ssl.SSLContext] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = check_url(url)
        self._deadline = float("inf")
        self._headers = dict(headers or {})
        self._clock = clock
        # A proxy can't reach this machine's own loopback, whatever the environment says.
        is_local = is_loopback(urlsplit(url).hostname or "")
        self._opener = OpenerDirector()
        # Not build_opener, whose handlers open file:, data: and ftp: URLs too. A page can link to any URL.
        for handler in (
            ProxyHandler({} if is_local else None),
            HTTPHandler(),
            HTTPSHandler(context=context),
            HTTPRedirectHandler(),
            HTTPErrorProcessor(),
            HTTPDefaultErrorHandler(),
            UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def limited(self, seconds: float) -> Client:
        """Return this client with all its requests together limited to ``seconds`` from now."""
        limited = copy.copy(self)
        limited._deadline = self._clock() + seconds
        return limited

    def get(self, url: str, accept: str, digests: Optional[List[str]] = None) -> Answer:
        """Fetch ``url``. With names of hash algorithms the body is hashed and dropped, else it is kept.

        Raises Trouble when no whole HTTP answer comes before the deadline.
        """
        request = Request(url, headers={"Accept": accept, "User-Agent": "devpi.mirror"})
        if url.startswith(self.url + "/"):
            for name, value in self._headers.items():
                # Not sent on to where a redirect leads: these are credentials.
                request.add_unredirected_header(name, value)
        try:
            with self._open(request) as response:
                if response.status >= 400:
                    return Answer(response.status, _lowered(response.headers), response.read(_CHUNK))
                return self._read(response, digests)
        except (OSError, http.client.HTTPException) as exc:
            raise kind_of_error(exc) from exc

    def _open(self, request: Request) -> Any:
        """Return the response, with any status."""
        try:
            return self._opener.open(request, timeout=self._left())
        except HTTPError as exc:
            return exc
        except UnicodeError as exc:
            raise Trouble(UNREACHABLE, "%s is no host name" % mask(urlsplit(request.full_url).netloc)) from exc
        except ValueError as exc:
            raise Trouble(OTHER_SERVICE, "it redirects to an invalid URL: %s" % exc) from exc

    def _left(self) -> float:
        left = self._deadline - self._clock()
        if left <= 0:
            raise Trouble(TOO_SLOW, "no whole answer in time")
        # A socket can't be given an infinite limit; a day is as good.
        return min(left, 86400.0)

    def _read(self, response: Any, digests: Optional[List[str]]) -> Answer:
        answer = Answer(response.status, _lowered(response.headers))
        hashes = {name: hashlib.new(name) for name in digests or []}
        parts: List[bytes] = []
        while True:
            self._left()
            chunk = response.read1(_CHUNK)
            if not chunk:
                break
            answer.size += len(chunk)
            for digest in hashes.values():
                digest.update(chunk)
            if digests is None:
                if answer.size > _PAGE_LIMIT:
                    raise Trouble(OTHER_SERVICE, "it sends more than a page can hold")
                parts.append(chunk)
        expected = _number(answer.headers.get("content-length", ""))
        if expected is not None and expected != answer.size:
            raise Trouble(UNREACHABLE, "the answer broke off after %d of %d bytes" % (answer.size, expected))
        answer.body = b"".join(parts)
        answer.digests = {name: digest.hexdigest() for name, digest in hashes.items()}
        return answer


def _number(text: str) -> Optional[int]:
    """Return the number that a header has, None if it has none."""
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None


def _parse(body: bytes) -> Any:
    """Return the value of a JSON document. Raises ValueError for anything else."""
    try:
        return json.loads(body.decode("utf-8"))
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def _lowered(headers: Any) -> Dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def look(client: Client, level: str, index: str, project: str, listener_uid: Optional[int] = None) -> Seen:
    """Look once how far towards ``level`` the server is. Never raises for anything the server does.

    With ``listener_uid`` and a loopback URL, no other user may listen on the URL's port of either loopback address.
    """
    known: Dict[str, Any] = {}
    try:
        if listener_uid is not None:
            _check_listener(client, listener_uid)
        _api(client, known)
        if level in ("api", "absent"):
            return Seen(READY, "devpi-server %s answers" % known["version"], **known)
        _index(client, index, known)
        if level == "index":
            return Seen(READY, "index %s exists" % index, **known)
        files = _project(client, index, project, known)
        if level == "project":
            return Seen(READY, "%s lists %d files of %s" % (index, len(files), project), **known)
        size = _file(client, files, known)
        return Seen(READY, "%s arrived whole, %d bytes" % (known["file"], size), **known)
    except Trouble as trouble:
        return Seen(trouble.kind, trouble.detail, **known)


def _check_listener(client: Client, uid: int) -> None:
    url = urlsplit(client.url)
    if not is_loopback(url.hostname or ""):
        return
    found = _host.listener(url.port or (443 if url.scheme == "https" else 80), _host.LOOPBACK, uid)
    if found is not None:
        process = "" if found.pid is None else " with %s (process %d)" % (found.program, found.pid)
        raise Trouble(
            OTHER_SERVICE, "the user with UID %d listens on that port of %s%s" % (found.uid, found.address, process)
        )


def _api(client: Client, known: Dict[str, Any]) -> None:
    answer = client.get(client.url + "/+api", "application/json")
    # devpi-server refuses nobody here: whoever does stands in front of it.
    if answer.status in (401, 403):
        raise Trouble(UNAUTHORISED, "it answers %d and wants a log-in" % answer.status)
    if answer.status in (500, 502, 503, 504):
        raise Trouble(SERVER_ERROR, "it answers %d" % answer.status)
    if not answer.is_devpi or answer.status != 200:
        server = answer.headers.get("server", "a program that does not say its name")
        raise Trouble(OTHER_SERVICE, "what answers there (%d) is %s, not devpi" % (answer.status, server))
    _note_headers(answer, known)


def _note_headers(answer: Answer, known: Dict[str, Any]) -> None:
    headers = answer.headers
    known["version"] = headers.get("x-devpi-server-version")
    known["uuid"] = headers.get("x-devpi-uuid")
    known["serial"] = _number(headers.get("x-devpi-serial", ""))


def _index(client: Client, index: str, known: Dict[str, Any]) -> None:
    answer = client.get("%s/%s/+api" % (client.url, quote(index)), "application/json")
    if answer.status in (401, 403):
        raise Trouble(UNAUTHORISED, "index %s wants a log-in" % index)
    if answer.status == 404:
        raise Trouble(NO_INDEX, "it has no index %s" % index)
    if answer.status != 200:
        raise Trouble(SERVER_ERROR, "it answers %d for index %s" % (answer.status, index))
    try:
        known["simpleindex"] = str(_parse(answer.body)["result"]["simpleindex"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Trouble(OTHER_SERVICE, "what it says of index %s is not devpi's JSON" % index) from exc


def _project(client: Client, index: str, project: str, known: Dict[str, Any]) -> List[Dict[str, Any]]:
    page = "%s/%s/+simple/%s/" % (client.url, quote(index), quote(project, safe=""))
    answer = client.get(page, SIMPLE_JSON)
    if answer.status in (401, 403):
        raise Trouble(UNAUTHORISED, "index %s wants a log-in" % index)
    if answer.is_upstream_failure:
        raise Trouble(UPSTREAM, "its upstream gives no page of %s (%d)" % (project, answer.status))
    if answer.status == 404:
        raise Trouble(NO_PROJECT, "index %s does not know %s" % (index, project))
    if answer.status != 200:
        raise Trouble(SERVER_ERROR, "it answers %d for the page of %s" % (answer.status, project))
    try:
        files = [
            {
                "filename": str(file["filename"]),
                "url": urljoin(page, str(file["url"])),
                "hashes": {str(name): str(value) for name, value in dict(file["hashes"]).items()},
                "yanked": file.get("yanked"),
            }
            for file in _parse(answer.body)["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Trouble(OTHER_SERVICE, "the page of %s is not the JSON of PEP 691" % project) from exc
    usable = [file for file in files if set(file["hashes"]) & _HASHES]
    if not usable:
        raise Trouble(NO_PROJECT, "index %s lists no file of %s" % (index, project))
    return usable


def choose_file(files: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Choose the file to fetch: a wheel of the newest release, as it is small and soon wanted again."""

    def preference(file: Dict[str, Any]) -> Tuple[bool, bool, List[Tuple[int, str]]]:
        name = str(file["filename"])
        release = re.search(r"-(?P<version>\d[\w.!+]*?)(?:-|\.tar|\.zip|\.whl|$)", name)
        version = release.group("version") if release else ""
        final = not file.get("yanked") and re.fullmatch(r"[\d.]+", version) is not None
        # Compared as text, as Python does not convert numbers of any length.
        numbers = [number.lstrip("0") for number in re.findall("[0-9]+", version)]
        return final, name.endswith(".whl"), [(len(number), number) for number in numbers]

    return max(files, key=preference)


def _file(client: Client, files: List[Dict[str, Any]], known: Dict[str, Any]) -> int:
    wanted = choose_file(files)
    known["file"] = wanted["filename"]
    usable = sorted(set(wanted["hashes"]) & _HASHES)
    algorithm = "sha256" if "sha256" in usable else usable[0]
    if urlsplit(wanted["url"]).scheme not in ("http", "https"):
        raise Trouble(OTHER_SERVICE, "its page links to %s, which is no HTTP URL" % mask(wanted["url"]))
    answer = client.get(wanted["url"], "*/*", [algorithm])
    if answer.status in (401, 403):
        raise Trouble(UNAUTHORISED, "%s wants a log-in" % wanted["filename"])
    if answer.is_upstream_failure:
        raise Trouble(UPSTREAM, "its upstream does not give %s (%d)" % (wanted["filename"], answer.status))
    if answer.status != 200:
        raise Trouble(SERVER_ERROR, "it answers %d for %s" % (answer.status, wanted["filename"]))
    if answer.digests[algorithm] != wanted["hashes"][algorithm]:
        raise Trouble(DAMAGED, "%s does not match its %s hash" % (wanted["filename"], algorithm))
    return answer.size


def remedy(kind: str) -> str:
    """Say what a person can do about a kind of trouble, in one sentence."""
    return _REMEDIES[kind]


_REMEDIES = {
    REFUSED: "Is the container running? See the log of the devpi service, and compare the host and port.",
    UNREACHABLE: "Compare the host name and the network between here and the server.",
    TOO_SLOW: "Raise the time limits, or see in the server's log and load what keeps it.",
    TLS: "Give the certificate authority's file as ca_path, or make the server's certificate match its name.",
    OTHER_SERVICE: "Another program has this port: stop it, or use another host and port.",
    SERVER_ERROR: "See the server's log.",
    UNAUTHORISED: "Give url_username and url_password of someone who may read this index.",
    NO_INDEX: "Create the index, or name one that exists.",
    NO_PROJECT: "Name a project that the index has; if it is a mirror, see whether its upstream can be reached.",
    UPSTREAM: "devpi itself runs: give it a way to its upstream (network, proxy, certificate authority, mirror_url).",
    DAMAGED: "Remove the file from the server's store, so that it is fetched again.",
    READY: "Stop the server, or wait longer for it to end.",
}
