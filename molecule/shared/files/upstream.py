# SPDX-License-Identifier: GPL-3.0-or-later
"""An index of made-up packages whose behavior tests control: upstream.py PORT

On PORT + 1 it serves the same over TLS, with a certificate that no client trusts. PORT - 1 is another origin, to which the
page of ``elsewhere`` links. Beside ``/simple/`` it has the index ``/other/``, with other releases and with other core metadata
of the same files, and ``/undated/``, whose pages have no upload times.

``POST`` requests control it:

- ``/+mode/MODE`` sets the mode: ``normal``, ``hang`` (no request is answered), ``failing`` (503), ``reset`` (connections are
  reset), and for files ``slow`` (1 KB/s), ``truncated`` (half of the announced length), ``broken`` (half of it, then a reset),
  ``interrupted`` (broken, unless a part is requested), ``restarted`` (the same, but the response to a request for a part is the
  whole file) or ``wrong`` (other bytes).
- ``/+release/NAME/VERSION`` publishes a release, ``/+yank/NAME/VERSION`` yanks one, ``/+other/NAME/VERSION`` publishes one in
  the other index, whose pages have the serial 1, and ``/+remove/NAME`` removes a project.
- ``/+status/NAME/STATUS`` sets the status of a project, and ``/+serial/NAME/NUMBER`` the serial of its page.
- ``/+page/NAME/STATUS`` sets the HTTP status of a project's page, and ``/+files/NAME/STATUS`` that of its files, which the page
  still lists. A response that is not 200 has ``Retry-After: 7``.

``GET /+seen`` lists the paths of all requests, each with its range if it has one. ``GET /+authorizations`` lists the distinct
pairs of port and ``Authorization`` header.

Besides the projects below, each of the names ``newN`` and, with 20 MB, ``bulkN`` exists. The page of ``bomb`` expands to
1.5 GB, and so does the core metadata of ``expanding``. The page of ``crowded`` has 8 million empty objects. ``hugeN`` has as
many files as the largest project of PyPI. ``greedy`` requires 5,000 projects. The wheels of ``garbledN`` are not zip archives.
The server ignores ``Range`` in requests for the wheels of ``wholeN``. It has core metadata of ``apartN`` that differs from that
in the wheel.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECTS = "alpha beta gamma delta epsilon large apart whole elsewhere source expanding greedy"
RELEASES = {name: ["1.0"] for name in PROJECTS.split()}
# Its page is larger than the buffers of a server.
RELEASES["many"] = [f"1.{number}" for number in range(1500)]
YANKED: set[tuple[str, str]] = set()
STATUS: dict[str, str] = {}
SERIALS: dict[str, str] = {}
# The releases in the other index.
OTHER: dict[str, list[str]] = {"omega": ["1.0"]}
# HTTP statuses other than 200, by "page" or "files" and project.
HTTP_STATUS: dict[tuple[str, str], int] = {}
# Projects with a wheel for each of these tags. Other projects have one for all platforms.
TAGS = {
    "epsilon": [
        f"{python}-{python}-{platform}"
        for python in ("cp39", "cp311", "cp313")
        for platform in ("manylinux_2_28_x86_64", "macosx_11_0_arm64", "win_amd64")
    ]
}
REQUIREMENTS = {
    "alpha": ["beta"],
    "gamma": ["delta"],
    "greedy": [f"new{n}" for n in range(5000, 10000)],
    **{f"new{n}": [f"new{n + 1}"] for n in (901, 903, 911, 913, 921, 941)},
}
# Projects whose core metadata is served. That of all others is in the wheel only.
APART = re.compile(r"apart\d*")
# Projects with a source distribution and no wheel.
SOURCES = ("source",)
# Projects whose files are always sent whole.
WHOLE = re.compile(r"whole\d*")
# Names of projects with one release.
NUMBERED = re.compile(r"(?:new|bulk|garbled|whole|apart)\d+")
LARGE = 20_000_000
SEEN: list[str] = []
AUTHORIZATIONS: set[tuple[int, str]] = set()
MODE = ["normal"]
PAGE_TYPE = "application/vnd.pypi.simple.v1+json"


def releases(name: str, index: str = "simple") -> list[str]:
    if index == "other":
        return OTHER.get(name, [])
    return RELEASES.get(name, ["1.0"] if NUMBERED.fullmatch(name) else [])


@lru_cache(2000)
def digest_and_size(project: str, version: str, tag: str) -> tuple[str, int]:
    content = wheel(project, version, tag)
    return hashlib.sha256(content).hexdigest(), len(content)


@lru_cache(20)
def wheel(name: str, version: str, tag: str) -> bytes:
    """Return a wheel, the same bytes at every call."""
    if name.startswith("garbled"):
        return b"This is no zip archive.\n" * 5000
    requirements = "".join(f"Requires-Dist: {other}\n" for other in REQUIREMENTS.get(name, []))
    folder = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n" + "#" * (LARGE if re.match("large|bulk", name) else 0),
        # The metadata of a vendored package is not that of the wheel.
        f"{name}/_vendor/other-3.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 3.0\n",
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
        f"{folder}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{folder}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{folder}/RECORD"])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, text in files.items():
            member = zipfile.ZipInfo(path)
            is_expanding = name == "expanding" and path == f"{folder}/METADATA"
            member.compress_type = zipfile.ZIP_DEFLATED if is_expanding else zipfile.ZIP_STORED
            with archive.open(member, "w") as written:
                written.write(text.encode())
                for _megabyte in range(1500 if is_expanding else 0):
                    written.write(bytes(1_000_000))
    return stream.getvalue()


def metadata_apart(name: str, version: str, summary: str) -> bytes:
    """Return core metadata that differs from that in the wheel."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n".encode()


@lru_cache(1)
def huge() -> bytes:
    """Return a page as large as that of ddtrace, which lists 46,724 files in 23 MB."""
    files = []
    for number in range(46_724):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        filename = f"huge-{number // 100}.{number % 100}.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
        file = {
            "core-metadata": False,
            "data-dist-info-metadata": False,
            "filename": filename,
            "hashes": {"sha256": digest},
            "provenance": None,
            "requires-python": ">=3.8",
            "size": number,
            "upload-time": "2024-01-01T00:00:00.000000Z",
            "url": f"/files/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{filename}",
            "yanked": False,
        }
        files.append(file)
    return json.dumps({"meta": {"api-version": "1.4"}, "name": "huge", "files": files}, separators=(",", ":")).encode()


@lru_cache(1)
def bomb() -> bytes:
    """Return 1.5 GB, compressed with gzip."""
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    return b"".join(compressor.compress(bytes(1_000_000)) for _piece in range(1500)) + compressor.flush()


def file_of(name: str, version: str, tag: str, host: str, index: str) -> dict[str, object]:
    """Return the entry of a file on the page of a project, for a request to this host."""
    filename = f"{name}-{version}" + (".tar.gz" if name in SOURCES else f"-{tag}.whl")
    url = f"/{'other-files' if index == 'other' else 'files'}/{name}/{version}/{tag}/{filename}"
    if name == "elsewhere":
        address, _colon, own_port = host.rpartition(":")
        url = f"http://{address}:{int(own_port) - 1}{url}"
    digest, size = digest_and_size(name, version, tag)
    file: dict[str, object] = {
        "filename": filename,
        "url": url,
        "hashes": {"sha256": digest},
        "size": size,
    }
    if index != "undated":
        # A release for each year, beginning with 2020 for version 1.0.
        file["upload-time"] = f"{2019 + int(version.split('.')[0])}-06-01T00:00:00Z"
    if APART.fullmatch(name) or index == "other":
        metadata = metadata_apart(name, version, "other" if index == "other" else "apart")
        file["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
    if (name, version) in YANKED:
        file["yanked"] = "broken"
    return file


def page_of(name: str, host: str, index: str = "simple") -> dict[str, object]:
    """Return the page of a project."""
    versions = [] if STATUS.get(name) == "quarantined" else releases(name, index)
    tags = TAGS.get(name, ["py3-none-any"])
    files = [file_of(name, version, tag, host, index) for version in versions for tag in tags]
    page: dict[str, object] = {"meta": {"api-version": "1.4"}, "name": name, "files": files}
    if name in STATUS:
        page["project-status"] = {"status": STATUS[name], "reason": "malware"}
    return page


def set_mode(mode: str) -> None:
    MODE[0] = mode


def set_http_status(kind: str, name: str, status: str) -> None:
    HTTP_STATUS[kind, name] = int(status)


# What POST requests do, by the first part of their path. The other parts are the arguments.
CONTROLS: dict[str, Callable[..., object]] = {
    "+mode": set_mode,
    "+release": lambda name, version: RELEASES.setdefault(name, []).append(version),
    "+yank": lambda name, version: YANKED.add((name, version)),
    "+status": STATUS.__setitem__,
    "+remove": lambda name: RELEASES.__setitem__(name, []),
    "+serial": SERIALS.__setitem__,
    "+other": lambda name, version: OTHER.setdefault(name, []).append(version),
    "+page": partial(set_http_status, "page"),
    "+files": partial(set_http_status, "files"),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, content: bytes, kind: str = "application/octet-stream", **more: str) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        send_faulty = getattr(self, "send_" + MODE[0], None) if kind == "application/octet-stream" else None
        if send_faulty:
            send_faulty(content)
        else:
            self.wfile.write(content)

    def send_slow(self, content: bytes) -> None:
        for start in range(0, len(content), 1000):
            if MODE[0] != "slow":
                self.wfile.write(content[start:])
                return
            self.wfile.write(content[start : start + 1000])
            time.sleep(1)

    def send_truncated(self, content: bytes) -> None:
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def send_broken(self, content: bytes) -> None:
        self.wfile.write(content[: len(content) // 2])
        self.reset()

    def send_interrupted(self, content: bytes) -> None:
        if "Range" in self.headers:
            self.wfile.write(content)
        else:
            self.send_broken(content)

    send_restarted = send_interrupted

    def send_wrong(self, content: bytes) -> None:
        self.wfile.write(content[:-100] + bytes(100))

    def reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def answer_failure(self, kind: str, project: str) -> bool:
        """Send the HTTP status that was set for a project. Return whether one was set."""
        status = HTTP_STATUS.get((kind, project), 200)
        if status != 200:
            self.answer(status, b"as configured\n", "text/plain", Retry_After="7")
        return status != 200

    def answer_file(self, folder: str, project: str, version: str, tag: str, name: str) -> None:
        if self.answer_failure("files", project):
            return
        content = wheel(project, version, tag)
        requested = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if name.endswith(".metadata"):
            is_other = folder == "other-files"
            if not APART.fullmatch(project) and not is_other:
                self.answer(404, b"not found\n", "text/plain")
                return
            metadata = metadata_apart(project, version, "other" if is_other else "apart")
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                self.answer(200, gzip.compress(metadata), Content_Encoding="gzip")
            else:
                self.answer(200, metadata)
        elif requested and not WHOLE.fullmatch(project) and MODE[0] != "restarted":
            first, last = requested.groups()
            start = int(first) if first else max(len(content) - int(last), 0)
            end = int(last) + 1 if first and last else len(content)
            self.answer(206, content[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(content)}")
        else:
            self.answer(200, content)

    def do_POST(self) -> None:
        action, *arguments = self.path.strip("/").split("/")
        control = CONTROLS.get(action)
        if control:
            control(*arguments)
        else:
            SEEN.append(self.path)
        self.answer(200, b"done\n", "text/plain")

    def do_GET(self) -> None:
        reports = {"/+seen": SEEN, "/+authorizations": sorted(AUTHORIZATIONS)}
        if self.path in reports:
            self.answer(200, json.dumps(reports[self.path]).encode(), "application/json")
            return
        port: int = self.server.server_address[1]  # type: ignore[index, assignment]
        AUTHORIZATIONS.add((port, self.headers.get("Authorization", "")))
        SEEN.append(self.path + (f" {self.headers['Range']}" if "Range" in self.headers else ""))
        if MODE[0] == "hang":
            time.sleep(300)
        if MODE[0] == "reset":
            self.reset()
        elif MODE[0] in ("hang", "failing"):
            self.answer(503, b"unavailable\n", "text/plain")
        else:
            self.answer_path(*self.path.strip("/").split("/"))

    def answer_path(self, folder: str, *parts: str) -> None:
        if folder == "simple" and not parts:
            projects = {"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in RELEASES]}
            self.answer(200, json.dumps(projects).encode(), PAGE_TYPE)
        elif folder in ("simple", "other", "undated") and len(parts) == 1:
            self.answer_page(folder, parts[0])
        elif folder in ("files", "other-files") and len(parts) == 4:
            if parts[0] == "large":
                # Other clients request it meanwhile.
                time.sleep(2)
            self.answer_file(folder, *parts)
        else:
            self.answer(404, b"not found\n", "text/plain")

    def answer_page(self, index: str, name: str) -> None:
        if index == "simple" and name == "crowded":
            page = b'{"meta": {"api-version": "1.0"}, "files": [' + b"{}," * 8_000_000 + b"{}]}"
            self.answer(200, page, PAGE_TYPE)
        elif index == "simple" and re.fullmatch(r"huge\d+", name):
            self.answer(200, huge(), PAGE_TYPE)
        elif index == "simple" and name == "bomb":
            self.answer(200, bomb(), "text/html", Content_Encoding="gzip")
        elif index == "simple" and self.answer_failure("page", name):
            pass
        elif releases(name, index):
            self.answer_listing(index, name)
        else:
            self.answer(404, b"not found\n", "text/plain")

    def answer_listing(self, index: str, name: str) -> None:
        page = json.dumps(page_of(name, self.headers["Host"], index)).encode()
        headers = {"ETag": f'"{hashlib.sha256(page).hexdigest()}"'}
        serial = "1" if index == "other" else SERIALS.get(name)
        if serial:
            headers["X_PyPI_Last_Serial"] = serial
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self.answer(304, b"", **headers)
        else:
            self.answer(200, page, PAGE_TYPE, **headers)

    do_HEAD = do_GET

    def finish(self) -> None:
        # Either side can have reset the connection.
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_arguments: object) -> None:
        pass


def serve_with_unknown_authority(port: int) -> ThreadingHTTPServer:
    """Return a server of the same index over TLS, with a certificate that no client trusts, as of a company's proxy."""
    folder = tempfile.mkdtemp()
    key, certificate = f"{folder}/key.pem", f"{folder}/cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=upstream", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


if __name__ == "__main__":
    port = int(sys.argv[1])
    unknown = serve_with_unknown_authority(port + 1)
    elsewhere = ThreadingHTTPServer(("0.0.0.0", port - 1), Handler)
    for server in (unknown, elsewhere):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()
