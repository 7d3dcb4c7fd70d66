# SPDX-License-Identifier: GPL-3.0-or-later
"""Run servers for the tests on loopback: servers.py FOLDER writes their ports and the process ID to FOLDER/servers.json.

other     an HTTP server that is not devpi
blackhole accepts connections and never responds
refused   a reserved port without a listener
tls       a TLS proxy for devpi, with a certificate of an untrusted authority (FOLDER/ca.pem)
late      a proxy for devpi that starts three seconds after FOLDER/start-late was created
devpi     a free port for devpi-server

It runs until it is killed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import socketserver
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import trustme

RESERVED = []


def reserve_port(listen: bool) -> int:
    """Reserve a free port, and return its number."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if listen:
        sock.listen(64)
    RESERVED.append(sock)
    return sock.getsockname()[1]


def choose_port() -> int:
    """Return a free port for a server that starts later.

    It is below the range from which the kernel chooses ports for other programs.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10000, first), 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("found no free port")


class Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>It works!</h1>")

    def log_message(self, *_args: object) -> None:
        pass


class Relay(socketserver.BaseRequestHandler):
    """Forwards a connection to devpi."""

    target = 0
    context: ssl.SSLContext | None = None

    def handle(self) -> None:
        try:
            near = self.request if self.context is None else self.context.wrap_socket(self.request, server_side=True)
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            return
        back = threading.Thread(target=self.copy, args=(far, near))
        back.start()
        self.copy(near, far)
        back.join()
        near.close()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


class RelayServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def relay(target: int, port: int, context: ssl.SSLContext | None) -> RelayServer:
    handler = type("Handler", (Relay,), {"target": target, "context": context})
    server = RelayServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    folder = Path(sys.argv[1])
    devpi = choose_port()
    late = choose_port()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    other = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    ports = {
        "devpi": devpi,
        "late": late,
        "other": other.server_port,
        "blackhole": reserve_port(listen=True),
        "refused": reserve_port(listen=False),
        "tls": relay(devpi, 0, context).server_address[1],
        "pid": os.getpid(),
    }
    fresh = folder / "servers.json.new"
    fresh.write_text(json.dumps(ports))
    fresh.rename(folder / "servers.json")
    while not (folder / "start-late").exists():
        time.sleep(0.1)
    time.sleep(3)
    relay(devpi, late, None)
    threading.Event().wait()


if __name__ == "__main__":
    main()
