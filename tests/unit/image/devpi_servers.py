# SPDX-License-Identifier: GPL-3.0-or-later
"""Run devpi-server with the plugin, and send requests to it."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from devpi_mirror import compat
from devpi_mirror.pages import JSON
from fake_index import WHEEL

IMAGE = Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "image"
ENTRY_POINTS = "[devpi_server]\ndevpi-mirror = devpi_mirror.plugin\n"
PASSWORD = "for-this-test-alone"
ARGON2 = ["--argon2-time-cost", "1", "--argon2-memory-cost", "8192", "--argon2-parallelism", "1"]


class NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_arguments):
        return None


OPENER = build_opener(ProxyHandler({}), NoRedirect())


def choose_port() -> int:
    """Return a free port that the kernel gives to no other program until devpi-server listens on it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10000, first), 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("found no free port")


def request(url: str, method: str = "GET", data: object = None, **headers: str) -> SimpleNamespace:
    """Send a request, and return the status, the headers and the body of the response."""
    body = None if data is None else json.dumps(data).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with OPENER.open(Request(url, body, names, method=method), timeout=30) as response:
            return SimpleNamespace(status=response.status, headers=response.headers, body=response.read())
    except HTTPError as exc:
        with exc:
            return SimpleNamespace(status=exc.code, headers=exc.headers, body=exc.read())


def wait_until_ready(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if request(f"{url}/+api").status == 200:
                return
        except (URLError, OSError):
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def log_in(url: str, user: str = "root", password: str = PASSWORD) -> str:
    """Return the value of X-Devpi-Auth of a user."""
    login = request(f"{url}/+login", "POST", {"user": user, "password": password}, Content_Type="application/json")
    assert login.status == 200, login.body
    token = json.loads(login.body)["result"]["password"]
    return base64.b64encode(f"{user}:{token}".encode()).decode()


def prepare(folder: Path, init: list[str]) -> dict[str, str]:
    """Create a data directory, and return the environment of devpi-server with the plugin."""
    info = folder / "site" / "devpi_mirror-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: devpi-mirror\nVersion: 1.0\n")
    environ = {
        **os.environ,
        "DEVPISERVER_ROOT_PASSWD": PASSWORD,
        "DEVPI_MIRROR_DATA": str(folder),
        "DEVPI_MIRROR_RUN": str(folder),
        "DEVPI_MIRROR_ETC": str(IMAGE),
        "PYTHONPATH": f"{IMAGE}:{info.parent}",
        **compat.renamed({"DEVPISERVER_ENABLE_CORE_METADATA": "1"}),
    }
    for name in ("tmp", "nginx"):
        (folder / name).mkdir()
    command = [str(Path(sys.executable).with_name("devpi-init")), "--serverdir", str(folder / "server"), *init]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return environ


@contextmanager
def running(
    folder: Path, environ: dict[str, str], options: list[str], port: int | None = None
) -> Iterator[SimpleNamespace]:
    """Run devpi-server with the data directory in ``folder``. ``stop`` stops it before the end."""
    port = port or choose_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "log"
    command = [str(Path(sys.executable).with_name("devpi-server")), "--serverdir", str(folder / "server"), *ARGON2]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *options], env=environ, stdout=stream, stderr=stream
        )

    def stop() -> None:
        process.terminate()
        process.wait(30)

    try:
        wait_until_ready(url, process, log)
        yield SimpleNamespace(url=url, port=port, log=log, folder=folder, environ=environ, stop=stop)
    finally:
        stop()


def set_upstream(url: str, auth: str, upstream_url: str) -> None:
    """Set the upstream of the public index."""
    renamed = compat.renamed({"mirror_no_project_list": True, "mirror_url": upstream_url})
    settings = [f"{name}={value}" for name, value in renamed.items()]
    changed = request(f"{url}/root/pypi", "PATCH", settings, X_Devpi_Auth=auth, Content_Type="application/json")
    assert changed.status == 200, changed.body


def upload(url: str, project: str, **headers: str) -> None:
    """Upload a wheel to the index with this URL."""
    fields = {":action": "file_upload", "name": project, "version": "9.0", "filetype": "bdist_wheel"}
    parts = [f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    file = f'--B\r\nContent-Disposition: form-data; name="content"; filename="{project}-9.0-py3-none-any.whl"\r\n\r\n'
    body = "".join([*parts, file]).encode() + WHEEL + b"\r\n--B--\r\n"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names["Content-Type"] = "multipart/form-data; boundary=B"
    with OPENER.open(Request(f"{url}/", body, names, method="POST"), timeout=30) as response:
        assert response.status == 200


def page_url(mirror, project: str) -> str:
    return f"{mirror.url}/root/pypi/+simple/{project}/"


def page(mirror, project: str, **headers: str) -> SimpleNamespace:
    return request(page_url(mirror, project), Accept=JSON, **headers)


def file_url(mirror, project: str) -> str:
    (file,) = json.loads(page(mirror, project).body)["files"]
    return urljoin(page_url(mirror, project), file["url"])
