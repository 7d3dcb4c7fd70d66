"""An index of made-up packages that does what it is told: upstream.py PORT

On PORT + 1 it serves the same over TLS, with a certificate that no client trusts. PORT - 1 is another origin, to which the
page of ``elsewhere`` links. Beside ``/simple/`` there is the index ``/other/``, which has its own releases and its own core
metadata of the same files.

``POST /+mode/MODE`` tells it: ``well``, ``hang`` (nothing is answered), ``failing`` (503), ``reset`` (connections are
reset), and for files ``slow`` (1 KB/s), ``truncated`` (half of what was announced), ``broken`` (half of it, then a reset),
``interrupted`` (broken, unless a part is requested), ``restarted`` (the same, but a request for a part is answered with the
whole file) or ``wrong`` (other bytes). ``POST /+release/NAME/VERSION`` publishes a release, ``/+yank/NAME/VERSION`` yanks one,
``/+status/NAME/STATUS`` sets the status of a project, and ``/+remove/NAME`` removes it. ``/+page/NAME/STATUS`` sets the HTTP
status of its page, and ``/+files/NAME/STATUS`` that of its files, which its page still lists; one that is not 200 comes with
``Retry-After: 7``. ``/+serial/NAME/NUMBER`` sets the serial of its page, and
``/+other/NAME/VERSION`` publishes a release in the other index, whose pages have the serial 1. ``GET /+seen`` lists the paths
that were requested, each with the part of it, if not all was. ``GET /+authorizations`` lists the ports and ``Authorization``
headers of all requests, each once.

Besides the projects that are listed here there is each of the names ``newN`` and, with 20 MB, ``bulkN``. The page of ``bomb``
expands to 1.5 GB, and so does the core metadata of ``expanding``. That of ``crowded`` has 8 million empty objects. ``hugeN``
has as many files as the largest project known. ``greedy`` requires 5,000 projects. The wheels of ``garbledN`` are no zip
archives, and the server ignores ``Range`` in requests for those of ``wholeN``. The upstream has the core metadata of
``apartN``, which is not that in the wheel.
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
from contextlib import suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROJECTS = "alpha beta gamma delta epsilon large apart whole elsewhere source expanding greedy"
RELEASES = {name: ["1.0"] for name in PROJECTS.split()}
# What has a page that is larger than what a server has in memory.
YANKED: set[tuple[str, str]] = set()
STATUS: dict[str, str] = {}
SERIALS: dict[str, str] = {}
# The releases in the other index.
OTHER: dict[str, list[str]] = {}
# The HTTP status of a project's page and of its files, by the part of the path, if it is not 200.
HTTP_STATUS: dict[tuple[str, str], int] = {}
RELEASES["many"] = [f"1.{number}" for number in range(1500)]
# What has another wheel for each of these; the others have one for all.
TAGS = {
    "epsilon": [
        f"{python}-{python}-{platform}"
        for python in ("cp39", "cp311", "cp313")
        for platform in ("manylinux_2_28_x86_64", "macosx_11_0_arm64", "win_amd64")
    ]
}
NEEDS = {
    "alpha": ["beta"],
    "gamma": ["delta"],
    "greedy": [f"new{n}" for n in range(5000, 10000)],
    **{f"new{n}": [f"new{n + 1}"] for n in (901, 903, 911, 913, 921, 941)},
}
# Whose core metadata can be had; of the others, it has to be read out of the wheel.
APART = re.compile(r"apart\d*")
# Projects that have a source distribution and no wheel.
SOURCES = ("source",)
# Whose files are sent in one piece only.
WHOLE = re.compile(r"whole\d*")
# Names that have one release without being listed.
NUMBERED = re.compile(r"(?:new|bulk|garbled|whole|apart)\d+")
LARGE = 20_000_000
SEEN: list[str] = []
AUTHORIZATIONS: set[tuple[int, str]] = set()
MODE = ["well"]


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
    needs = "".join(f"Requires-Dist: {other}\n" for other in NEEDS.get(name, []))
    folder = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n" + "#" * (LARGE if re.match("large|bulk", name) else 0),
        # Another package inside of this one is not what it is called.
        f"{name}/_vendor/other-3.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 3.0\n",
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
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
    """Return core metadata that differs from what is in the wheel."""
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
    """Return what the page of a project lists of a file, for a request to this host."""
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
        # A release for each year, beginning with 2020 for version 1.0.
        "upload-time": f"{2019 + int(version.split('.')[0])}-06-01T00:00:00Z",
    }
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
        spoil = getattr(self, "send_" + MODE[0], None) if kind == "application/octet-stream" else None
        if spoil:
            spoil(content)
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
        """Send the HTTP status that was set for a project. Returns whether there is one."""
        status = HTTP_STATUS.get((kind, project), 200)
        if status != 200:
            self.answer(status, b"not for you\n", "text/plain", Retry_After="7")
        return status != 200

    def answer_file(self, folder: str, project: str, version: str, tag: str, name: str) -> None:
        if self.answer_failure("files", project):
            return
        content = wheel(project, version, tag)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if name.endswith(".metadata"):
            is_other = folder == "other-files"
            if not APART.fullmatch(project) and not is_other:
                self.answer(404, b"no such thing\n", "text/plain")
                return
            told = metadata_apart(project, version, "other" if is_other else "apart")
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                self.answer(200, gzip.compress(told), Content_Encoding="gzip")
            else:
                self.answer(200, told)
        elif asked and not WHOLE.fullmatch(project) and MODE[0] != "restarted":
            first, last = asked.groups()
            start = int(first) if first else max(len(content) - int(last), 0)
            end = int(last) + 1 if first and last else len(content)
            self.answer(206, content[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(content)}")
        else:
            self.answer(200, content)

    def do_POST(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "+mode":
            MODE[0] = parts[1]
        elif parts[0] == "+release":
            RELEASES.setdefault(parts[1], []).append(parts[2])
        elif parts[0] == "+yank":
            YANKED.add((parts[1], parts[2]))
        elif parts[0] == "+status":
            STATUS[parts[1]] = parts[2]
        elif parts[0] == "+remove":
            RELEASES[parts[1]] = []
        elif parts[0] == "+serial":
            SERIALS[parts[1]] = parts[2]
        elif parts[0] == "+other":
            OTHER.setdefault(parts[1], []).append(parts[2])
        elif parts[0] in ("+page", "+files"):
            HTTP_STATUS[parts[0][1:], parts[1]] = int(parts[2])
        else:
            SEEN.append(self.path)
        self.answer(200, b"done\n", "text/plain")

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "+seen":
            self.answer(200, json.dumps(SEEN).encode(), "application/json")
            return
        if parts[0] == "+authorizations":
            self.answer(200, json.dumps(sorted(AUTHORIZATIONS)).encode(), "application/json")
            return
        AUTHORIZATIONS.add((self.server.server_address[1], self.headers.get("Authorization", "")))
        SEEN.append(self.path + (f" {self.headers['Range']}" if "Range" in self.headers else ""))
        if MODE[0] == "hang":
            time.sleep(300)
        if MODE[0] == "reset":
            self.reset()
        elif MODE[0] in ("hang", "failing"):
            self.answer(503, b"not today\n", "text/plain")
        elif parts == ["simple", "crowded"]:
            page = b'{"meta": {"api-version": "1.0"}, "files": [' + b"{}," * 8_000_000 + b"{}]}"
            self.answer(200, page, "application/vnd.pypi.simple.v1+json")
        elif parts[0] == "simple" and re.fullmatch(r"huge\d+", parts[1]):
            self.answer(200, huge(), "application/vnd.pypi.simple.v1+json")
        elif parts == ["simple", "bomb"]:
            self.answer(200, bomb(), "text/html", Content_Encoding="gzip")
        elif parts[0] == "simple" and len(parts) == 2 and self.answer_failure("page", parts[1]):
            pass
        elif parts[0] in ("simple", "other") and len(parts) == 2 and releases(parts[1], parts[0]):
            page = json.dumps(page_of(parts[1], self.headers["Host"], parts[0])).encode()
            more = {"ETag": f'"{hashlib.md5(page).hexdigest()}"'}
            serial = "1" if parts[0] == "other" else SERIALS.get(parts[1])
            if serial:
                more["X_PyPI_Last_Serial"] = serial
            if self.headers.get("If-None-Match") == more["ETag"]:
                self.answer(304, b"", **more)
            else:
                self.answer(200, page, "application/vnd.pypi.simple.v1+json", **more)
        elif parts[0] in ("files", "other-files") and len(parts) == 5:
            if parts[1] == "large":
                # So that a crowd comes while it is on its way.
                time.sleep(2)
            self.answer_file(*parts)
        else:
            self.answer(404, b"no such thing\n", "text/plain")

    do_HEAD = do_GET

    def finish(self) -> None:
        # It may have been reset, here or there.
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_arguments: object) -> None:
        pass


def serve_with_unknown_authority(port: int) -> ThreadingHTTPServer:
    """Return the same over TLS, with a certificate that nobody trusts, as behind a company's proxy."""
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
