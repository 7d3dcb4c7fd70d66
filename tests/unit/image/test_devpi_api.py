# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to devpi over its Unix socket, by the image's devpi_api.py."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

import pytest


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.requests.append(
            (self.command, self.path, self.headers.get("X-Devpi-Auth"), self.rfile.read(length))
        )
        status, content_type, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.do_POST()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def api(load, monkeypatch, tmp_path):
    module = load("devpi_api")
    monkeypatch.setattr(module, "SOCKET", str(tmp_path / "socket"))
    return module


@pytest.fixture
def devpi(api):
    server = socketserver.UnixStreamServer(api.SOCKET, Handler)
    server.requests = []
    server.answer = (200, "application/json", b'{"result": 7}')
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_json_is_sent_and_returned(api, devpi):
    assert api.send("POST", "/+login", {"user": "root"}, "token") == {"result": 7}
    assert api.send("GET", "/") == {"result": 7}
    assert devpi.requests == [
        ("POST", "/+login", "token", json.dumps({"user": "root"}).encode()),
        ("GET", "/", None, b""),
    ]


def test_a_response_of_another_type_is_read_and_discarded(api, devpi):
    devpi.answer = (200, "application/octet-stream", bytes(1_000_000))
    assert api.send("GET", "/file") is None


def test_an_error_has_its_status(api, devpi):
    devpi.answer = (403, "application/json", b"{}")
    with pytest.raises(api.StatusError, match="403 to GET /alice") as caught:
        api.send("GET", "/alice")
    assert caught.value.status == 403


def test_a_devpi_that_does_not_listen_is_unavailable(api):
    with pytest.raises(api.UnavailableError):
        api.send("GET", "/+api")
