# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how much a server can answer per second of processor time.

The mirror's own processor time is measured, so the result does not depend on the clients, which share the processors.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.request import Request

import load
import servers
from servers import Server

ROUNDS = 3
CLIENTS = 8
# Changes of devpi, which are slower than other requests.
CHANGES = 40
TLS_PORT = 3443


def tls_options(folder: Path) -> list[str]:
    """Return the options of "docker run" with which a mirror also serves over TLS. The certificate is created in ``folder``."""
    certificate = folder / "certificate.pem"
    key = folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    # The container's user reads the file.
    folder.chmod(0o755)
    (folder / "server.pem").write_text(certificate.read_text() + key.read_text())
    return ["--publish", f"127.0.0.1::{TLS_PORT}", "--volume", f"{folder}:/run/mirror-tls:ro"]


def tls_base(server: Server) -> str:
    return "https://" + servers.docker("port", server.name, str(TLS_PORT)).splitlines()[0]


def per_processor_second(server: Server, work: Callable[[], float]) -> list[float]:
    """Return what ``work()`` counts per second of the server's processor time, for each round."""
    found = []
    for _round in range(ROUNDS):
        server.await_idle()
        before = server.processor_seconds()
        count = work()
        server.await_idle()
        found.append(count / (server.processor_seconds() - before))
    return found


def wheel(name: str, version: str) -> bytes:
    """Return a wheel of about 10 kB."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr(f"{name}/data", os.urandom(10_000))
        archive.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
    return stored.getvalue()


class Uploader:
    """Uploads releases of a project to a private index, as root."""

    def __init__(self, server: Server, token: str, index: str, project: str) -> None:
        self.url = f"{server.base}/{index}/"
        self.auth = base64.b64encode(f"root:{token}".encode()).decode()
        self.project = project
        self.released = 0

    def upload(self) -> None:
        """Upload a new release, as twine does."""
        self.released += 1
        version = f"1.{self.released}"
        fields = {":action": "file_upload", "protocol_version": "1", "filetype": "bdist_wheel", "pyversion": "py3"}
        fields |= {"metadata_version": "2.1", "name": self.project, "version": version}
        boundary = uuid.uuid4().hex
        parts = [f'name="{key}"\r\n\r\n{value}' for key, value in fields.items()]
        parts.append(f'name="content"; filename="{self.project}-{version}-py3-none-any.whl"\r\n\r\n')
        start = "".join(f"--{boundary}\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
        body = start.removesuffix("\r\n").encode() + wheel(self.project, version) + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "X-Devpi-Auth": self.auth}
        with servers.OPENER.open(Request(self.url, body, headers)):
            pass


def measure(server: Server, file: str, installations: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return what the mirror answers per second of processor time, by kind of request.

    Args:
        server: a mirror with ``tls_options``, which has cached all that is requested.
        file: the URL of a large file.
        installations: functions that each install with the mirror.
    """
    found: dict[str, list[float]] = {}

    def count(what: str, work: Callable[[], float]) -> None:
        found[what] = per_processor_second(server, work)
        print(f"{what}: {found[what]}", file=sys.stderr)

    def count_pages(what: str, url: str, *headers: str) -> None:
        count(f"pages {what}", lambda: load.send(url, "json", CLIENTS, *headers).responses)

    def repeated(call: Callable[[], object], times: int) -> float:
        for _time in range(times):
            call()
        return times

    def count_gigabytes(what: str, url: str) -> None:
        count(f"GB of a file over {what}", lambda: load.send(url, "any", CLIENTS).size / 1e9)

    for name, base in (("HTTP", server.base), ("TLS", tls_base(server))):
        for project in ("six", "boto3"):
            count_pages(f"of {project} over {name}", f"{base}{server.path}{project}/")
        count_gigabytes(name, base + file.removeprefix(server.base))
    for name, install in installations.items():
        count(name, partial(repeated, install, 1))

    password = servers.docker("exec", server.name, "cat", "/data/root-password")
    count("logins", partial(repeated, partial(servers.log_in, server, password), CHANGES))
    token = servers.log_in(server, password)
    authorization = "Authorization: Basic " + base64.b64encode(f"root:{token}".encode()).decode()
    for index, settings in (("private", {}), ("restricted", {"acl_read": ["root"]})):
        servers.call(server, "PUT", f"/root/{index}", {"bases": ["root/pypi"], **settings}, token)
        uploader = Uploader(server, token, f"root/{index}", "ours")
        count(f"uploads to a {index} index", partial(repeated, uploader.upload, CHANGES))
        pages = f"{server.base}/root/{index}/+simple/"
        count_pages(f"of the {index} index's own project", f"{pages}ours/", authorization)
        count_pages(f"of a public project in the {index} index", f"{pages}six/", authorization)
    return found
