# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi


class Handler(BaseHTTPRequestHandler):
    """Responds with the server's ``responses`` by path, each a status and a document, and records the bodies."""

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.bodies.append((self.command, self.headers.get("Content-Type"), body))
        status, document = self.server.responses[self.path]
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Devpi-Server-Version", "6.20.3")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = respond

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    httpd.bodies, httpd.responses = [], {}
    httpd.api = _api.Api(_devpi.Client(f"http://127.0.0.1:{httpd.server_port}"), 10)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_upload(server):
    server.responses["/a/b/"] = (200, {})
    server.api.upload("/a/b/", iter([b"one", b"two" * 100000]), 300003, "multipart/form-data; boundary=x")
    assert server.bodies == [("POST", "multipart/form-data; boundary=x", b"one" + b"two" * 100000)]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"message": "\n\n\n", "title": "foo already exists"}, "foo already exists"),
        ({"message": "denied.\n\n\nReason", "title": "Forbidden"}, "denied. Reason"),
        ([], "no details"),
    ],
)
def test_upload_refused(server, document, text):
    server.responses["/a/b/"] = (409, document)
    with pytest.raises(_api.ApiError) as raised:
        server.api.upload("/a/b/", iter([b"x"]), 1, "text/plain")
    assert (raised.value.status, str(raised.value)) == (409, text)


def test_with_limit(server):
    server.responses["/+api"] = (200, {"result": {}})
    with pytest.raises(_devpi.ProbeError, match="timed out"):
        server.api.with_limit(0).call("GET", "/+api")
    assert server.api.call("GET", "/+api") == {}


@pytest.mark.parametrize("status", [401, 403])
def test_permitted(status):
    with pytest.raises(
        _api.RefusedError,
        match=r"Could not act: the user ada has no permission \(no\)\. Ask root",
    ), _api.permitted("ada", "act", "Ask root"):
        raise _api.ApiError(status, "no")


def test_permitted_other_errors():
    with pytest.raises(_api.ApiError, match="conflict"), _api.permitted("ada", "act", "Ask root"):
        raise _api.ApiError(409, "conflict")


@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (200, {"result": {"authstatus": ["ok", "ada", []]}}, True),
        (200, {"result": {"authstatus": ["noauth", "", []]}}, False),
        (403, {"message": "Token expired"}, False),
    ],
)
def test_is_authenticated(server, status, document, expected):
    server.responses["/+api"] = (status, document)
    assert server.api.is_authenticated() is expected
