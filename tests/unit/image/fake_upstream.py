# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP server in place of an upstream, whose responses a test defines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeUpstream(ThreadingHTTPServer):
    """Calls ``answer(handler)`` for each request. ``requests`` has the method, the path and the headers of each."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, answer: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connections: set[int] = set()
        self.url = f"http://127.0.0.1:{self.server_port}/simple/"

    def paths(self) -> list[str]:
        return [path for _method, path, _headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise the body waits until the client has acknowledged the header, which takes it 40 ms.
    disable_nagle_algorithm = True
    server: FakeUpstream

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.server.connections.add(self.client_address[1])
        self.server.answer(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self.do_GET()

    def send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


def send_slowly(content: bytes, size: int, is_released: threading.Event) -> Callable[[Handler], None]:
    """Return an answer that sends the first ``size`` bytes of the content, and the rest after ``is_released`` is set."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:size])
        assert is_released.wait(30)
        handler.wfile.write(content[size:])

    return answer


@contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[FakeUpstream]:
    """Run an upstream on a free port."""
    server = FakeUpstream(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
