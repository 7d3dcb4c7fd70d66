# SPDX-License-Identifier: GPL-3.0-or-later
"""An upstream of mirror indexes, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/vnd.pypi.simple.v1+json"


class Handler(BaseHTTPRequestHandler):
    """Serves the project pip under ``/simple/`` and ``/other/``, without upload times under ``/undated/``.

    ``/broken/`` is status 500.
    """

    def do_GET(self) -> None:
        index, project = (*self.path.strip("/").split("/"), "")[:2]
        if project != "pip" or index == "broken":
            self.send_error(500 if index == "broken" else 404)
            return
        file = {
            "filename": "pip-26.0-py3-none-any.whl",
            "url": "pip-26.0-py3-none-any.whl",
            "hashes": {"sha256": "0" * 64},
        }
        if index != "undated":
            file["upload-time"] = "2026-01-01T00:00:00Z"
        body = json.dumps({"meta": {"api-version": "1.1"}, "name": "pip", "files": [file]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", JSON)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    """Run the upstream, and yield its URL, which ends with a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
