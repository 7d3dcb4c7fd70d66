# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a folder to the user "reader" with the password in the file of the argument. Runs on the test host."""

from __future__ import annotations

import base64
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EXPECTED = "Basic " + base64.b64encode(b"reader:" + Path(sys.argv[1]).read_bytes()).decode()


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers["Authorization"] == EXPECTED:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET


ThreadingHTTPServer(("127.0.0.1", 3998), partial(Handler, directory="/srv")).serve_forever()
