# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what ``uv pip compile`` requests to resolve requirements without versions: pages, and metadata of hundreds of wheels.

The folder has two upstreams. ``simple/`` lists core metadata (PEP 658), which ``files/`` has. ``wheels/simple/`` lists none,
and ``wheels/files/`` has wheels that contain only their metadata, so that clients read it from the end of the wheels.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin

from recording import JSON, default_index, fetch, metadata_in, recorded_path, write, write_page

CASES = {
    "boto": ("awscli", "aiobotocore", "boto3", "s3fs"),
    "data": ("jupyterlab", "mlflow", "dbt-core"),
}
# Bytes at the end of a wheel, which contain the metadata and the directory of most wheels.
END = 131_072


def fetch_metadata(url: str) -> bytes:
    """Return the core metadata of a wheel. Raises ValueError if it has none."""
    content = metadata_in(fetch(url, part=f"bytes=-{END}")) or metadata_in(fetch(url))
    if content is None:
        raise ValueError(f"{url} has no metadata")
    return content


def wheel_of(path: str, metadata: bytes) -> bytes:
    """Return a wheel that contains only its metadata."""
    name, version = Path(path).name.split("-")[:2]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
    return stream.getvalue()


class Recorder(ThreadingHTTPServer):
    """A proxy of an index that records what is requested."""

    daemon_threads = True

    def __init__(self, index: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.index = index
        self.folder = folder
        # The URLs of the wheels on recorded pages, by path.
        self.urls: dict[str, str] = {}

    def page(self, name: str) -> bytes:
        page = f"{self.index}{name}/"
        content = json.loads(fetch(page, JSON))
        for file in content["files"]:
            path = recorded_path(file["url"], page)
            self.urls[path] = urljoin(page, file["url"])
            for key in ("core-metadata", "data-dist-info-metadata", "dist-info-metadata"):
                file.pop(key, None)
        listed = [
            dict(
                file,
                url=recorded_path(file["url"], page),
                **({"core-metadata": True} if file["filename"].endswith(".whl") else {}),
            )
            for file in content["files"]
        ]
        unlisted = [dict(file, url="/wheels" + recorded_path(file["url"], page)) for file in content["files"]]
        for folder, files in (("", listed), ("wheels", unlisted)):
            text = json.dumps(dict(content, files=files), separators=(",", ":")).encode()
            write_page(self.folder / folder / "simple" / name, "json", text)
        return (self.folder / "simple" / name / "page.json").read_bytes()

    def metadata(self, path: str) -> bytes:
        metadata = fetch_metadata(self.urls[path])
        write(self.folder / f"{path.lstrip('/')}.metadata", metadata)
        write(self.folder / "wheels" / path.lstrip("/"), wheel_of(path, metadata))
        return metadata


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_GET(self) -> None:
        status, content = 200, b""
        try:
            if self.path.startswith("/simple/"):
                content = self.server.page(self.path.split("/")[2])
            else:
                content = self.server.metadata(self.path.removesuffix(".metadata"))
        except HTTPError as exc:
            status = exc.code
        self.send_response(status)
        self.send_header("Content-Type", JSON)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        pass


def compile_command(python: Path, index: str) -> list[Any]:
    """Return the command that resolves the requirements in its standard input."""
    command = [python.with_name("uv"), "pip", "compile", "--quiet", "--no-cache", "--python", python]
    return [*command, "--only-binary", ":all:", "--default-index", index, "-"]


def record(folder: Path, python: Path, env: dict[str, str]) -> None:
    """Record what uv requests to resolve each case, unless a recording exists. A recording is always complete."""
    if folder.exists():
        return
    incomplete = folder.with_name(folder.name + ".new")
    shutil.rmtree(incomplete, ignore_errors=True)
    server = Recorder(default_index(python), incomplete)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for case in CASES.values():
            command = compile_command(python, f"http://127.0.0.1:{server.server_port}/simple/")
            subprocess.run(command, input="\n".join(case), env=env, check=True, capture_output=True, text=True)
    finally:
        server.shutdown()
        server.server_close()
    incomplete.rename(folder)
