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
    """A server on loopback. What it answers is set in ``answers``: status, headers and body by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append((self.path, dict(self.headers)))
            status, headers, body = self.server.answers.get(self.path, (404, DEVPI, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    server.answers = {
        "/+api": (200, DEVPI, b"{}"),
        "/root/pypi/+api": (200, DEVPI, json.dumps({"result": {"simpleindex": "http://h/+simple/"}}).encode()),
        "/root/pypi/+simple/pip/": (200, DEVPI, json.dumps(PAGE).encode()),
        "/root/pypi/+f/pip-26.0-py3-none-any.whl": (200, DEVPI, WHEEL),
    }
    server.url = "http://127.0.0.1:%d" % server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def look(server, level="file", **kwargs):
    return _devpi.look(_devpi.Client(server.url, **kwargs).limited(20), level, "root/pypi", "pip")


@pytest.mark.parametrize(("level", "requests"), [("api", 1), ("absent", 1), ("index", 2), ("project", 3), ("file", 4)])
def test_each_level_looks_as_far_as_it_says(server, level, requests):
    seen = look(server, level)
    assert seen.kind == _devpi.READY
    assert (seen.version, seen.uuid, seen.serial) == ("6.20.3", "c0ffee", 7)
    assert len(server.asked) == requests
    assert seen.simpleindex == ("http://h/+simple/" if requests > 1 else None)
    assert seen.file == ("pip-26.0-py3-none-any.whl" if level == "file" else None)


def test_simple_pages_are_asked_for_as_json(server):
    look(server, "project")
    assert server.asked[-1][1]["Accept"] == "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize(
    ("path", "answer", "kind"),
    [
        ("/+api", (200, {}, b"hello"), _devpi.OTHER_SERVICE),
        ("/+api", (404, {"Server": "nginx"}, b""), _devpi.OTHER_SERVICE),
        ("/+api", (503, {}, b""), _devpi.SERVER_ERROR),
        ("/+api", (401, {}, b""), _devpi.UNAUTHORISED),
        ("/root/pypi/+api", (404, DEVPI, b""), _devpi.NO_INDEX),
        ("/root/pypi/+api", (403, DEVPI, b""), _devpi.UNAUTHORISED),
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
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (401, DEVPI, b""), _devpi.UNAUTHORISED),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (410, DEVPI, b""), _devpi.SERVER_ERROR),
        ("/root/pypi/+f/pip-26.0-py3-none-any.whl", (200, DEVPI, WHEEL + b"!"), _devpi.DAMAGED),
        (
            "/root/pypi/+f/pip-26.0-py3-none-any.whl",
            (200, dict(DEVPI, **{"Content-Length": "99"}), WHEEL),
            "unreachable",
        ),
    ],
)
def test_each_trouble_has_its_name(server, path, answer, kind):
    server.answers[path] = answer
    seen = look(server)
    assert seen.kind == kind
    assert _devpi.remedy(seen.kind)


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
def test_json_of_another_shape_is_another_service(server, path, body, kind):
    server.answers[path] = (200, DEVPI, body)
    assert look(server).kind == kind


@pytest.mark.parametrize("serial", ["\u00b2", "-1", "9" * 5000, "7 8", ""])
def test_a_serial_that_is_no_number_is_unknown(server, serial):
    server.answers["/+api"] = (200, dict(DEVPI, **{"X-Devpi-Serial": serial}), b"{}")
    seen = look(server, "api")
    assert (seen.kind, seen.serial) == (_devpi.READY, None)


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
    server.answers["/root/pypi/+simple/pip/"] = (200, DEVPI, json.dumps(page).encode())
    assert look(server).kind == kind


def test_a_redirect_leads_to_http_urls_only(server):
    server.answers["/+api"] = (302, {"Location": "file:///etc/hostname"}, b"")
    assert look(server, "api").kind == _devpi.OTHER_SERVICE


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_with_a_malformed_body_is_another_service(server, status):
    server.answers["/+api"] = (
        status,
        dict(DEVPI, **{"Transfer-Encoding": "chunked", "Content-Length": "9"}),
        b"nonsense\r\n",
    )
    assert look(server, "api").kind == _devpi.OTHER_SERVICE


def test_a_redirect_to_an_invalid_url(server):
    server.answers["/+api"] = (302, {"Location": "http://[bad/"}, b"")
    assert look(server, "api").kind == _devpi.OTHER_SERVICE


def test_an_error_of_the_program_is_raised(server, monkeypatch):
    monkeypatch.setattr(_devpi, "_lowered", lambda headers: headers.no_such_method())
    with pytest.raises(AttributeError):
        look(server, "api")


def test_nobody_listens():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = _devpi.Client("http://127.0.0.1:%d" % held.getsockname()[1])
        assert _devpi.look(client, "api", "root/pypi", "pip").kind == _devpi.REFUSED


def test_a_listener_of_another_user_is_another_service(server):
    client = _devpi.Client(server.url)
    assert _devpi.look(client.limited(20), "api", "root/pypi", "pip", os.geteuid()).kind == _devpi.READY
    server.asked.clear()
    seen = _devpi.look(client.limited(20), "api", "root/pypi", "pip", os.geteuid() + 1)
    assert seen.kind == _devpi.OTHER_SERVICE
    assert f"UID {os.geteuid()} listens on that port of 127.0.0.1" in seen.detail
    assert f"process {os.getpid()}" in seen.detail
    # Credentials are not sent to it either.
    assert server.asked == []


def test_what_does_not_speak_http_is_another_service():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def greet():
            connection, _address = listener.accept()
            # To close a connection with unread data resets it, and the client may not get the answer.
            connection.recv(1 << 16)
            connection.sendall(b"220 mail.example.com ESMTP\r\n")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        client = _devpi.Client("http://127.0.0.1:%d" % listener.getsockname()[1])
        seen = _devpi.look(client.limited(20), "api", "root/pypi", "pip")
        thread.join()
    assert seen.kind == _devpi.OTHER_SERVICE


def test_a_time_that_is_up_ends_a_look(server):
    seen = _devpi.look(_devpi.Client(server.url).limited(0), "api", "root/pypi", "pip")
    assert seen.kind == _devpi.TOO_SLOW
    assert server.asked == []


def test_credentials_go_to_the_server_and_not_where_it_redirects(server):
    server.answers["/+api"] = (302, {"Location": server.url.replace("127.0.0.1", "localhost") + "/other"}, b"")
    look(server, "api", headers={"Authorization": "Basic eA=="})
    assert [headers.get("Authorization") for _path, headers in server.asked] == ["Basic eA==", None]


def test_no_proxy_for_loopback(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert look(server, "api").kind == _devpi.READY


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
def test_errors_of_the_network_are_sorted(error, kind):
    assert _devpi.kind_of_error(error).kind == kind


@pytest.mark.parametrize("url", ["http://localhost:3141/", "https://devpi.example.com", "http://[::1]:3141/devpi"])
def test_urls_of_servers(url):
    assert _devpi.check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["localhost:3141", "ftp://localhost", "http://", "http://h:port", "http://h:0", "http://h/?a=b", "http://h h", ""],
)
def test_what_is_no_url_of_a_server(url):
    with pytest.raises(ValueError, match=r"is no URL"):
        _devpi.check_url(url)


def test_credentials_in_a_url_are_refused_and_not_repeated():
    with pytest.raises(ValueError, match="url_username") as error:
        _devpi.check_url("http://ada:secret@localhost:3141")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("index", ["root/pypi", "/root/pypi/"])
def test_names_of_indexes(index):
    assert _devpi.check_index(index) == "root/pypi"


@pytest.mark.parametrize("index", ["pypi", "root/pypi/+simple", "", "root/", "root/py pi"])
def test_what_is_no_index(index):
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
def test_the_newest_final_wheel_is_chosen(names, chosen):
    assert _devpi.choose_file([{"filename": name} for name in names])["filename"] == chosen


def test_a_version_of_any_length_is_compared():
    names = ["a-%s-py3-none-any.whl" % version for version in ("9" * 5000, "1" + "0" * 5000, "10")]
    assert _devpi.choose_file([{"filename": name} for name in names])["filename"] == names[1]


def test_a_withdrawn_file_is_not_chosen():
    files = [{"filename": "a-2.0-py3-none-any.whl", "yanked": "broken"}, {"filename": "a-1.0-py3-none-any.whl"}]
    assert _devpi.choose_file(files)["filename"] == "a-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("host", "answer"),
    [("localhost", True), ("a.localhost", True), ("127.1.2.3", True), ("::1", True), ("example.com", False)],
)
def test_loopback(host, answer):
    assert _devpi.is_loopback(host) is answer
