# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import URLError

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi

DEVPI = {"X-Devpi-Server-Version": "6.20.3", "X-Devpi-Uuid": "c0ffee", "X-Devpi-Serial": "7"}
WHEEL = b"the bytes of a wheel"
PAGE = {
    "files": [
        {
            "filename": "pip-26.0-py3-none-any.whl",
            "url": "../../+f/pip-26.0-py3-none-any.whl",
            "hashes": {"sha256": hashlib.sha256(WHEEL).hexdigest()},
        }
    ]
}


@pytest.fixture
def server():
    """A server on loopback. ``responses`` has the status, headers and body by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append((self.path, dict(self.headers)))
            status, headers, body = self.server.responses.get(self.path, (404, DEVPI, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    server.responses = {
        "/+api": (200, DEVPI, b"{}"),
        "/root/pypi/+api": (200, DEVPI, json.dumps({"result": {"simpleindex": "http://h/+simple/"}}).encode()),
        "/root/pypi/+simple/pip/": (200, DEVPI, json.dumps(PAGE).encode()),
        "/root/pypi/+f/pip-26.0-py3-none-any.whl": (200, DEVPI, WHEEL),
    }
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def probe(server, level="file", **kwargs):
    return _devpi.probe(_devpi.Client(server.url, **kwargs).with_deadline(20), level, "root/pypi", "pip")


@pytest.mark.parametrize(("level", "requests"), [("api", 1), ("absent", 1), ("index", 2), ("project", 3), ("file", 4)])
def test_requests_of_each_level(server, level, requests):
    result = probe(server, level)
    assert result.kind == _devpi.READY
    assert (result.version, result.uuid, result.serial) == ("6.20.3", "c0ffee", 7)
    assert len(server.requests) == requests
    assert result.simpleindex == ("http://h/+simple/" if requests > 1 else None)
    assert result.file == ("pip-26.0-py3-none-any.whl" if level == "file" else None)


def replication_status(**values):
    return (200, DEVPI, json.dumps({"result": {"serial": 7, **values}}).encode())


REPLICA = {"role": "REPLICA", "primary-serial": 7, "update-from-primary-at": 1.5, "replication-errors": {}}


@pytest.mark.parametrize(
    ("values", "detail"),
    [
        ({"role": "MASTER"}, "devpi-server is a primary server with serial 7"),
        ({"role": "STANDALONE"}, "devpi-server is a standalone server with serial 7"),
        (REPLICA, "the replica has all changes of its primary (serial 7)"),
    ],
)
def test_server_in_sync(server, values, detail):
    server.responses["/+status"] = replication_status(**values)
    result = probe(server, "in_sync")
    assert (result.kind, result.detail) == (_devpi.READY, detail)


@pytest.mark.parametrize(
    ("values", "detail", "lag"),
    [
        ({"primary-serial": 9}, "serial 7 of 9, and 0 files", 2),
        ({"replication-errors": {"a": {}}}, "serial 7 of 7, and 1 files", 0),
        ({"primary-serial": None}, "has received nothing", None),
        ({"update-from-primary-at": None}, "has received nothing", None),
    ],
)
def test_replica_not_in_sync(server, values, detail, lag):
    server.responses["/+status"] = replication_status(**{**REPLICA, **values})
    result = probe(server, "in_sync")
    assert result.kind == _devpi.NOT_IN_SYNC
    assert detail in result.detail
    assert result.lag == lag


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ((500, DEVPI, b""), _devpi.SERVER_ERROR),
        ((200, DEVPI, b"[]"), _devpi.OTHER_SERVICE),
        (replication_status(), _devpi.OTHER_SERVICE),
    ],
)
def test_unexpected_replication_status(server, response, kind):
    server.responses["/+status"] = response
    assert probe(server, "in_sync").kind == kind


def test_simple_pages_are_requested_as_json(server):
    probe(server, "project")
    assert server.requests[-1][1]["Accept"] == "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize(
    ("path", "response", "kind"),
    [
        ("/+api", (200, {}, b"hello"), _devpi.OTHER_SERVICE),
        ("/+api", (404, {"Server": "nginx"}, b""), _devpi.OTHER_SERVICE),
        ("/+api", (503, {}, b""), _devpi.SERVER_ERROR),
        ("/+api", (401, {}, b""), _devpi.UNAUTHORIZED),
        ("/root/pypi/+api", (404, DEVPI, b""), _devpi.NO_INDEX),
        ("/root/pypi/+api", (403, DEVPI, b""), _devpi.UNAUTHORIZED),
        ("/root/pypi/+api", (500, DEVPI, b""), _devpi.SERVER_ERROR),
        ("/root/pypi/+api", (200, DEVPI, b"<html>"), _devpi.OTHER_SERVICE),
        ("/root/pypi/+simple/pip/", (404, DEVPI, b""), _devpi.NO_PROJECT),
        ("/root/pypi/+simple/pip/", (502, DEVPI, b""), _devpi.UPSTREAM),
        ("/root/pypi/+simple/pip/", (503, DEVPI, b""), _devpi.UPSTREAM),
        ("/root/pypi/+simple/pip/", (503, {}, b""), _devpi.SERVER_ERROR),
        ("/root/pypi/+simple/pip/", (500, DEVPI, b""), _devpi.SERVER_ERROR),
        ("/root/pypi/+simple/pip/", (200, DEVPI, b'{"files": []}'), _devpi.NO_PROJECT),
        ("/root/pypi/+simple/pip/", (200, DEVPI, b"<html>"), _devpi.OTHER_SERVICE),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (502, DEVPI, b""), _devpi.UPSTREAM),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (503, DEVPI, b""), _devpi.UPSTREAM),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (401, DEVPI, b""), _devpi.UNAUTHORIZED),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (410, DEVPI, b""), _devpi.SERVER_ERROR),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (200, DEVPI, WHEEL + b"!"), _devpi.DAMAGED),
        (
            "/root/pypi/+f/pip-26.0-py3-none-any.whl",
            (200, dict(DEVPI, **{"Content-Length": "99"}), WHEEL),
            "unreachable",
        ),
    ],
)
def test_kind_of_each_failure(server, path, response, kind):
    server.responses[path] = response
    result = probe(server)
    assert result.kind == kind
    assert _devpi.remedy(result.kind)


NESTED = b"[" * 200_000


def page_of(url, hashes):
    return json.dumps({"files": [{"filename": "a", "url": url, "hashes": hashes}]}).encode()


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/root/pypi/+api", NESTED, _devpi.OTHER_SERVICE),
        ("/root/pypi/+api", b'{"result": []}', _devpi.OTHER_SERVICE),
        ("/root/pypi/+simple/pip/", NESTED, _devpi.OTHER_SERVICE),
        ("/root/pypi/+simple/pip/", b'{"files": {"a": 1}}', _devpi.OTHER_SERVICE),
        ("/root/pypi/+simple/pip/", b'{"files": [{"filename": 1, "url": 2, "hashes": ["sha256"]}]}', _devpi.OTHER_SERVICE),
        ("/root/pypi/+simple/pip/", page_of("b", {"shake_128": "c"}), _devpi.NO_PROJECT),
        ("/root/pypi/+simple/pip/", page_of("http://[", {}), _devpi.OTHER_SERVICE),
    ],
)  # fmt: skip
def test_unexpected_json_is_another_service(server, path, body, kind):
    server.responses[path] = (200, DEVPI, body)
    assert probe(server).kind == kind


@pytest.mark.parametrize("serial", ["\u00b2", "-1", "9" * 5000, "7 8", ""])
def test_invalid_serial_is_unknown(server, serial):
    server.responses["/+api"] = (200, dict(DEVPI, **{"X-Devpi-Serial": serial}), b"{}")
    result = probe(server, "api")
    assert (result.kind, result.serial) == (_devpi.READY, None)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("file:///etc/hostname", _devpi.OTHER_SERVICE),
        ("data:,a", _devpi.OTHER_SERVICE),
        ("ftp://localhost/a", _devpi.OTHER_SERVICE),
        ("http://%s.example/a" % ("a" * 70), _devpi.UNREACHABLE),
    ],
)
def test_only_http_urls_are_opened(server, url, kind):
    page = {"files": [dict(PAGE["files"][0], url=url)]}
    server.responses["/root/pypi/+simple/pip/"] = (200, DEVPI, json.dumps(page).encode())
    assert probe(server).kind == kind


def test_redirect_to_another_scheme(server):
    server.responses["/+api"] = (302, {"Location": "file:///etc/hostname"}, b"")
    assert probe(server, "api").kind == _devpi.OTHER_SERVICE


@pytest.mark.parametrize("status", [404, 500])
def test_error_with_a_malformed_body_is_another_service(server, status):
    server.responses["/+api"] = (
        status,
        dict(DEVPI, **{"Transfer-Encoding": "chunked", "Content-Length": "9"}),
        b"nonsense\r\n",
    )
    assert probe(server, "api").kind == _devpi.OTHER_SERVICE


def test_redirect_to_an_invalid_url(server):
    server.responses["/+api"] = (302, {"Location": "http://[bad/"}, b"")
    assert probe(server, "api").kind == _devpi.OTHER_SERVICE


def test_programming_errors_are_raised(server, monkeypatch):
    monkeypatch.setattr(_devpi, "_lowered", lambda headers: headers.no_such_method())
    with pytest.raises(AttributeError):
        probe(server, "api")


def test_connection_refused():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = _devpi.Client(f"http://127.0.0.1:{held.getsockname()[1]}")
        assert _devpi.probe(client, "api", "root/pypi", "pip").kind == _devpi.REFUSED


def test_listener_of_another_user_is_another_service(server):
    client = _devpi.Client(server.url)
    assert _devpi.probe(client.with_deadline(20), "api", "root/pypi", "pip", os.geteuid()).kind == _devpi.READY
    server.requests.clear()
    result = _devpi.probe(client.with_deadline(20), "api", "root/pypi", "pip", os.geteuid() + 1)
    assert result.kind == _devpi.OTHER_SERVICE
    assert f"UID {os.geteuid()} listens on that port of 127.0.0.1" in result.detail
    assert f"process {os.getpid()}" in result.detail
    # Credentials are not sent to it.
    assert server.requests == []


def test_other_protocol_is_another_service():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def greet():
            connection, _address = listener.accept()
            # Closing a connection with unread data resets it, and the client may not get the response.
            connection.recv(1 << 16)
            connection.sendall(b"220 mail.example.com ESMTP\r\n")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        client = _devpi.Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        result = _devpi.probe(client.with_deadline(20), "api", "root/pypi", "pip")
        thread.join()
    assert result.kind == _devpi.OTHER_SERVICE


def test_expired_deadline(server):
    result = _devpi.probe(_devpi.Client(server.url).with_deadline(0), "api", "root/pypi", "pip")
    assert result.kind == _devpi.TOO_SLOW
    assert server.requests == []


def test_credentials_are_not_sent_to_the_target_of_a_redirect(server):
    server.responses["/+api"] = (302, {"Location": server.url.replace("127.0.0.1", "localhost") + "/other"}, b"")
    probe(server, "api", headers={"Authorization": "Basic eA=="})
    assert [headers.get("Authorization") for _path, headers in server.requests] == ["Basic eA==", None]


def test_no_proxy_for_loopback(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert probe(server, "api").kind == _devpi.READY


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (URLError(ConnectionRefusedError(111, "refused")), _devpi.REFUSED),
        (URLError(OSError(99, "Cannot assign requested address")), _devpi.REFUSED),
        (URLError(socket.gaierror(-2, "Name or service not known")), _devpi.UNREACHABLE),
        (URLError(socket.timeout("timed out")), _devpi.TOO_SLOW),
        (socket.timeout("timed out"), _devpi.TOO_SLOW),
        (ConnectionResetError(104, "reset"), _devpi.REFUSED),
        (http.client.RemoteDisconnected("closed"), _devpi.REFUSED),
        (ConnectionAbortedError(103, "aborted"), _devpi.UNREACHABLE),
        (http.client.IncompleteRead(b"x"), _devpi.OTHER_SERVICE),
        (http.client.BadStatusLine("220 mail"), _devpi.OTHER_SERVICE),
        (URLError(ssl.SSLCertVerificationError(1, "self-signed certificate")), _devpi.TLS),
        (URLError(ssl.SSLError(1, "wrong version number")), _devpi.TLS),
        (URLError(ssl.SSLError("The read operation timed out")), _devpi.TOO_SLOW),
    ],
)
def test_kind_of_network_errors(error, kind):
    assert _devpi.classify_error(error).kind == kind


@pytest.mark.parametrize("url", ["http://localhost:3141/", "https://devpi.example.com", "http://[::1]:3141/devpi"])
def test_valid_urls(url):
    assert _devpi.check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["localhost:3141", "ftp://localhost", "http://", "http://h:port", "http://h:0", "http://h/?a=b", "http://h h", ""],
)
def test_invalid_urls(url):
    with pytest.raises(ValueError, match="is not a valid URL"):
        _devpi.check_url(url)


def test_credentials_in_a_url_are_rejected_and_not_printed():
    with pytest.raises(ValueError, match="url_username") as error:
        _devpi.check_url("http://ada:secret@localhost:3141")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("index", ["root/pypi", "/root/pypi/"])
def test_valid_indexes(index):
    assert _devpi.check_index(index) == "root/pypi"


@pytest.mark.parametrize("index", ["pypi", "root/pypi/+simple", "", "root/", "root/py pi"])
def test_invalid_indexes(index):
    with pytest.raises(ValueError, match="root/pypi"):
        _devpi.check_index(index)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["pip-9.0.3-py3-none-any.whl", "pip-26.0-py3-none-any.whl", "pip-26.0.tar.gz"], "pip-26.0-py3-none-any.whl"),
        (["pip-25.0-py3-none-any.whl", "pip-26.0rc1-py3-none-any.whl"], "pip-25.0-py3-none-any.whl"),
        (["a-1.0.tar.gz", "a-1.10.tar.gz", "a-1.9.tar.gz"], "a-1.10.tar.gz"),
        (["nothing-like-a-version"], "nothing-like-a-version"),
    ],
)
def test_newest_final_wheel_is_chosen(names, chosen):
    assert _devpi.choose_file([{"filename": name} for name in names])["filename"] == chosen


def test_versions_of_any_length_are_compared():
    names = [f"a-{version}-py3-none-any.whl" for version in ("9" * 5000, "1" + "0" * 5000, "10")]
    assert _devpi.choose_file([{"filename": name} for name in names])["filename"] == names[1]


def test_yanked_file_is_not_chosen():
    files = [{"filename": "a-2.0-py3-none-any.whl", "yanked": "broken"}, {"filename": "a-1.0-py3-none-any.whl"}]
    assert _devpi.choose_file(files)["filename"] == "a-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("a.localhost", True), ("127.1.2.3", True), ("::1", True), ("example.com", False)],
)
def test_loopback(host, expected):
    assert _devpi.is_loopback(host) is expected


PARAMETERS = {"request_timeout": 5, "url_username": None, "ca_path": None, "validate_certs": True}


def test_the_certificate_authorities_are_read_for_https_alone(server, monkeypatch):
    def tls_context(*arguments):
        read.append(arguments)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    read: list = []
    monkeypatch.setattr(_devpi, "tls_context", tls_context)
    client = _devpi.client_from({**PARAMETERS, "url": server.url})
    assert _devpi.probe(client.with_deadline(20), "file", "root/pypi", "pip").kind == "ready"
    assert read == []
    # The target of a redirect, which does not respond over TLS.
    server.responses["/root/pypi/+api"] = (302, {"Location": server.url.replace("http", "https")}, b"")
    for _time in range(2):
        assert _devpi.probe(client.with_deadline(20), "index", "root/pypi", "pip").kind == "tls"
    assert read == [(None, True)]
    _devpi.client_from({**PARAMETERS, "url": "https://devpi.example.com", "validate_certs": False})
    assert read[1:] == [(None, False)]


@pytest.mark.parametrize("url", ["http://127.0.0.1:3141", "https://devpi.example.com"])
def test_an_invalid_ca_path_is_refused(url):
    with pytest.raises(ValueError, match="ca_path: could not read certificates from /does/not/exist"):
        _devpi.client_from({**PARAMETERS, "url": url, "ca_path": "/does/not/exist"})


def test_an_authority_without_a_key_usage_is_accepted():
    # Python 3.13 rejects it by default, and installers accept it.
    assert not _devpi.tls_context(None, True).verify_flags & ssl.VERIFY_X509_STRICT


def test_certificates_are_validated_by_default():
    assert _devpi.tls_context(None, True).check_hostname
    assert not _devpi.tls_context(None, False).check_hostname


NOON = 1_790_337_600.0
DATE = "Fri, 25 Sep 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("date", "sent", "received", "expected"),
    [
        (DATE, NOON, NOON, (-1.0, 0.0, -0.5)),
        (DATE, NOON - 40, NOON - 38, (-41.0, -38.0, -39.5)),
        (DATE, NOON + 5, NOON + 5.2, (4.0, 5.2, 4.6)),
    ],
)
def test_the_offset_of_the_clock(date, sent, received, expected):
    offset = _devpi.clock_offset(date, sent, received)
    assert (offset.least, pytest.approx(offset.most), offset.seconds) == expected


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 25 Sep 99999 12:00:00 GMT", "Fri, 99 Foo 2026 12:00:00 GMT"])
def test_no_offset_without_a_valid_date(date):
    assert _devpi.clock_offset(date, NOON, NOON) is None


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9375])
@pytest.mark.parametrize("delay", [(0.0, 0.0), (0.0, 8.0), (8.0, 0.0), (4.0, 4.0)])
@pytest.mark.parametrize(
    ("ahead", "is_refused"),
    [(0.0, False), (0.75, False), (-36.75, False), (2.25, True), (60.0, True), (-38.25, True), (-3600.0, True)],
)
def test_only_wrong_clocks_are_refused(fraction, delay, ahead, is_refused):
    there, back = delay
    sent = NOON + fraction + ahead - there
    offset = _devpi.clock_offset(DATE, sent, sent + there + back)
    assert offset.least <= ahead <= offset.most
    # A slow response proves less.
    if not is_refused or sum(delay) == 0 or abs(ahead) >= 60:
        assert bool(offset.problem) == is_refused


@pytest.mark.parametrize(("ahead", "text"), [(4.0, "3.5 s ahead of that"), (-45.0, "45.5 s behind that")])
def test_the_problem_has_the_offset_and_the_limits(ahead, text):
    problem = _devpi.clock_offset(DATE, NOON + ahead, NOON + ahead).problem
    assert text in problem
    assert "at most 1 s ahead and 37 s behind" in problem


def test_the_probe_compares_the_clocks(server):
    clock = probe(server, "api").clock
    assert clock.problem == ""
    assert clock.least < 0 < clock.most
