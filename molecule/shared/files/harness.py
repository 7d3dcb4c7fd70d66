# SPDX-License-Identifier: GPL-3.0-or-later
"""Control a test host, its mirrors and its upstream, for tests that run on the controller.

The environment's HOST is the name of the test host's container.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urljoin

HOST = os.environ["HOST"]
ON_HOST = ["docker", "exec", HOST]
# How plays connect to a test host, as in molecule's inventory.
CONNECTION = {"ansible_connection": "ansible.builtin.ssh", "ansible_user": "root"}
MIRROR_PORT = 3141
UPSTREAM_PORT = 8099
# The upstream's address on the test host, for mirrors. Unlike the address that the controller uses, it never changes.
UPSTREAM_ADDRESS = "192.0.2.1"
PUBLIC = "/root/pypi/+simple/"
JSON = "application/vnd.pypi.simple.v1+json"
LIMIT = 30.0
# A hung devpi-server is replaced within 45 s.
RECOVERY_LIMIT = 90.0
# Exceptions of a request whose connection is lost.
LOST = (OSError, http.client.HTTPException)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return body.decode()

    @property
    def is_cached(self) -> bool:
        """Whether it is from nginx's cache, fresh or not."""
        return self.headers.get("x-cached") in ("HIT", "STALE", "UPDATING")

    @property
    def is_outdated(self) -> bool:
        """Whether it is a cached page that is no longer fresh, which the mirror refreshes in the background."""
        return self.headers.get("x-cached") in ("STALE", "UPDATING")


@cache
def address() -> str:
    """Return the test host's address, which can change at each boot."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    done = subprocess.run(["docker", "inspect", "--format", form, HOST], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]


def connect(port: int, limit: float) -> http.client.HTTPConnection:
    """Return a connection to a port of the test host."""
    return http.client.HTTPConnection(address(), port, timeout=limit)


def request(port: int, path: str, method: str, body: bytes | None, limit: float, headers: Mapping[str, str]) -> Answer:
    """Send one request with the path unchanged, and return the answer. Raises ``LOST`` if there is none.

    Names of headers have underscores instead of hyphens.
    """
    connection = connect(port, limit)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def send(
    port: int, path: str, method: str = "GET", body: bytes | None = None, limit: float = 60, **headers: str
) -> Answer:
    return request(port, path, method, body, limit, headers)


def set_upstream_mode(mode: str) -> None:
    send(UPSTREAM_PORT, f"/+mode/{mode}", "POST")


def publish_upstream(name: str, version: str) -> None:
    """Publish a release at the upstream."""
    send(UPSTREAM_PORT, f"/+release/{name}/{version}", "POST")


def upstream_requests() -> list[str]:
    """Return the paths that were requested from the upstream, each with its range if it has one."""
    requests: list[str] = json.loads(send(UPSTREAM_PORT, "/+seen").body)
    return requests


def await_upstream() -> None:
    """Wait until the upstream answers, after a boot or a start of its service."""

    def answers() -> bool:
        try:
            return send(UPSTREAM_PORT, "/+seen").status == 200
        except LOST:
            return False

    until(answers, "the upstream does not answer", RECOVERY_LIMIT)


def on_host(command: str) -> str:
    """Run a command on the test host, and return what it prints. Raises AssertionError with the output if it fails."""
    done = subprocess.run([*ON_HOST, "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def until(condition: Callable[[], Any], failure: str, limit: float = LIMIT) -> None:
    """Wait until ``condition()`` is true. Raises AssertionError after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    started = time.monotonic()
    while not condition():
        ended = time.monotonic()
        if ended > deadline:
            raise AssertionError(failure)
        # A condition that takes long would use the processor that other tests need. One that waits for a hung server does not.
        time.sleep(min(max(0.1, 2 * (ended - started)), 2))
        started = time.monotonic()


def cut_power() -> None:
    subprocess.run(["docker", "kill", HOST], check=True, capture_output=True)
    address.cache_clear()


def shut_down() -> None:
    """Stop the test host as its init system does."""
    subprocess.run(["docker", "stop", "--time", "60", HOST], check=True, capture_output=True)
    address.cache_clear()


def boot() -> None:
    """Start the test host, whose init system is systemd, and return when it has booted."""
    subprocess.run(["docker", "start", HOST], check=True, capture_output=True)
    address.cache_clear()
    until(
        lambda: on_host("systemctl is-system-running --wait || true").strip(), "the host does not boot", RECOVERY_LIMIT
    )


class Mirror:
    """A mirror on the test host: its container and the port that it listens on."""

    def __init__(self, container: str = "devpi", port: int = MIRROR_PORT) -> None:
        self.container = container
        self.port = port

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, limit: float = 60, **headers: str
    ) -> Answer:
        return request(self.port, path, method, body, limit, headers)

    def page(self, name: str, **headers: str) -> Answer:
        """Return the page of a public project, as JSON."""
        return request(self.port, f"{PUBLIC}{name}/", "GET", None, 60, {"Accept": JSON, **headers})

    def files(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the files that a project's page lists, with absolute paths, by name."""
        listed = json.loads(self.page(name).text)["files"]
        return {file["filename"]: dict(file, path=urljoin(f"{PUBLIC}{name}/", file["url"])) for file in listed}

    def is_serving(self, path: str, **headers: str) -> bool:
        try:
            return request(self.port, path, "GET", None, 60, headers).status == 200
        except LOST:
            return False

    def run(self, command: str) -> str:
        """Run a command in the container."""
        done = subprocess.run(
            [*ON_HOST, "docker", "exec", self.container, "sh", "-c", command],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def state(self) -> dict[str, Any]:
        """Return the state that the mirror reports."""
        state: dict[str, Any] = json.loads(self.run("/opt/devpi/bin/python -m devpi_mirror.maintenance status"))
        return state

    def maintain(self, **limits: str) -> str:
        """Run all of the mirror's maintenance now, with limits by the names of their variables, and return its output."""
        settings = " ".join(f"DEVPI_MIRROR_{name}={value}" for name, value in limits.items())
        return self.run(f"{settings} /opt/devpi/bin/python -m devpi_mirror.maintenance all")

    def log(self) -> str:
        return on_host(f"docker logs {self.container} 2>&1")

    def call(self, method: str, path: str, body: Any, auth: str = "") -> Any:
        """Send devpi a request as its own client does, and return the ``result`` of its JSON."""
        headers = {"Accept": "application/json", "Content_Type": "application/json"}
        if auth:
            headers["X_Devpi_Auth"] = auth
        answer = request(self.port, path, method, json.dumps(body).encode(), 60, headers)
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.text[:300]}")
        return json.loads(answer.body or b"{}").get("result")

    def log_in(self, name: str, password: str) -> User:
        token = self.call("POST", "/+login", {"user": name, "password": password})["password"]
        return User(self, name, base64.b64encode(f"{name}:{token}".encode()).decode())

    def log_in_root(self) -> User:
        return self.log_in("root", self.run("cat /data/root-password"))

    def create_user(self, name: str) -> User:
        """Create a user with a private index that has the public index as its base, unless they exist."""
        root = self.log_in_root()
        password = f"secret-of-{name}"
        existing = self.call("GET", "/", None, root.auth)
        if name not in existing:
            self.call("PUT", f"/{name}", {"password": password}, root.auth)
        if "private" not in existing.get(name, {}).get("indexes", {}):
            self.call("PUT", f"/{name}/private", {"bases": ["root/pypi"], "volatile": True}, root.auth)
        return self.log_in(name, password)


def wheel_upload(name: str, version: str, padding: int = 0) -> tuple[bytes, str]:
    """Return the body of a request that uploads a wheel, and its content type.

    ``padding`` is the number of megabytes that its core metadata has and that are compressed to almost nothing.
    """
    stream = io.BytesIO()
    folder = f"{name}-{version}.dist-info"
    path = zipfile.ZipInfo(f"{folder}/METADATA")
    path.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(stream, "w") as archive:
        with archive.open(path, "w") as metadata:
            metadata.write(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode())
            for _megabyte in range(padding):
                metadata.write(bytes(1_000_000))
        archive.writestr(
            zipfile.ZipInfo(f"{folder}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        names = [f"{folder}/{file}" for file in ("METADATA", "WHEEL", "RECORD")]
        archive.writestr(zipfile.ZipInfo(names[-1]), "".join(f"{file},,\n" for file in names))
    fields = {":action": "file_upload", "name": name, "version": version, "filetype": "bdist_wheel"}
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    file = f"{name}-{version}-py3-none-any.whl"
    parts.append(f'--B\r\nContent-Disposition: form-data; name="content"; filename="{file}"\r\n\r\n'.encode())
    return b"".join([*parts, stream.getvalue(), b"\r\n--B--\r\n"]), "multipart/form-data; boundary=B"


class User:
    """A user who is logged in to a mirror and has a private index."""

    def __init__(self, mirror: Mirror, name: str, auth: str) -> None:
        self.mirror = mirror
        self.auth = auth
        self.index = f"/{name}/private/"

    def upload(self, name: str, version: str, padding: int = 0) -> None:
        """Upload a release to the private index. A public project can have the same name.

        ``padding`` is the number of megabytes that its core metadata has and that are compressed to almost nothing.
        """
        body, content_type = wheel_upload(name, version, padding)
        answer = self.mirror.ask(self.index, "POST", body, X_Devpi_Auth=self.auth, Content_Type=content_type)
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.text[:300]}")

    def upload_test_result(self, path: str) -> None:
        """Upload a test result of a file, whose path on the mirror this is."""
        self.mirror.call("POST", path, {"testenvs": {}}, self.auth)

    def delete(self, name: str, version: str) -> None:
        """Delete a release from the private index."""
        status = self.mirror.ask(f"{self.index}{name}/{version}", "DELETE", X_Devpi_Auth=self.auth).status
        if status != 200:
            raise AssertionError(f"{status} for the deletion of {name} {version}")
