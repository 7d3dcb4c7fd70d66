"""An upstream that does what a test tells it, on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Iterator


class FakeUpstream(ThreadingHTTPServer):
    """``answer(handler)`` writes the response to a request. ``requests`` has the method, the path and the headers of each."""

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
    server: FakeUpstream

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.server.connections.add(self.client_address[1])
        self.server.answer(self)

    do_HEAD = do_CONNECT = do_GET

    def send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[FakeUpstream]:
    server = FakeUpstream(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
