"""A conversation with a mirror and with the upstream of the tests, which does what it is told."""

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
from typing import Any, Callable, NamedTuple
from urllib.parse import urljoin

UPSTREAM = os.environ["UPSTREAM"]
MIRROR = os.environ["MIRROR"]
HOST = os.environ["HOST"]
ON_HOST = ["docker", "exec", HOST]
PUBLIC = "/root/pypi/+simple/"
JSON = "application/vnd.pypi.simple.v1+json"
LIMIT = 30.0
# A hang of devpi-server is over 45 s after it began, at the latest.
BACK = 90.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return body.decode()


def ask(
    path: str, method: str = "GET", body: bytes | None = None, server: str = MIRROR, limit: float = 60, **headers: str
) -> Answer:
    """Send one request with the path as it is, and return the answer. Raises OSError and HTTPException if there is none."""
    connection = http.client.HTTPConnection(server, timeout=limit)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def page(name: str, **headers: str) -> Answer:
    return ask(f"{PUBLIC}{name}/", Accept=JSON, **headers)


def files(name: str) -> dict[str, dict[str, Any]]:
    """Return the files that a project's page lists, with absolute paths, by name."""
    listed = json.loads(page(name).text)["files"]
    return {file["filename"]: dict(file, path=urljoin(f"{PUBLIC}{name}/", file["url"])) for file in listed}


def tell_upstream(what: str) -> None:
    ask(f"/{what}", "POST", server=UPSTREAM)


def seen_upstream() -> list[str]:
    seen: list[str] = json.loads(ask("/+seen", server=UPSTREAM).body)
    return seen


def on_host(command: str) -> str:
    """Run a command on the host of the mirror."""
    return subprocess.run([*ON_HOST, "sh", "-c", command], check=True, capture_output=True, text=True).stdout


def inside(command: str, container: str = "devpi") -> str:
    """Run a command in the mirror's container."""
    done = subprocess.run(
        [*ON_HOST, "docker", "exec", container, "sh", "-c", command], check=True, capture_output=True, text=True
    )
    return done.stdout


def mirror_state(container: str = "devpi") -> dict[str, Any]:
    """Return what the caretaker in the mirror's container tells."""
    told: dict[str, Any] = json.loads(inside("/opt/devpi/bin/python /opt/devpi/etc/caretaker.py look", container))
    return told


def until(true: Callable[[], Any], why: str, limit: float = LIMIT) -> None:
    """Wait until ``true()`` is, for ``limit`` seconds at most."""
    deadline = time.monotonic() + limit
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(why)
        time.sleep(0.1)


def reachable(path: str, server: str = MIRROR) -> bool:
    try:
        return ask(path, server=server).status == 200
    except OSError:
        return False


def cut_power() -> None:
    subprocess.run(["docker", "kill", HOST], check=True, capture_output=True)


def boot() -> None:
    """Start the host, of which systemd is the init system, and return when it has started."""
    subprocess.run(["docker", "start", HOST], check=True, capture_output=True)
    until(lambda: on_host("systemctl is-system-running --wait || true").strip(), "the host does not boot", BACK)


class Person:
    """Somebody with a private index, which is called after them and has the public one below it."""

    def __init__(self, name: str, password: str) -> None:
        self.name = name
        self.index = f"/{name}/private/"
        token = call("POST", "/+login", {"user": name, "password": password})["password"]
        self.auth = base64.b64encode(f"{name}:{token}".encode()).decode()

    @classmethod
    def with_private_index(cls, name: str, container: str = "devpi") -> Person:
        """Make such a person."""
        root = cls("root", inside("cat /data/root-password", container))
        call("PUT", f"/{name}", {"password": f"secret-of-{name}"}, root.auth)
        call("PUT", f"/{name}/private", {"bases": ["root/pypi"], "volatile": True}, root.auth)
        return cls(name, f"secret-of-{name}")

    def upload(self, name: str, version: str) -> None:
        """Put a private release of a name into the private index. The name may be public too."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), text)
        fields = {":action": "file_upload", "name": name, "version": version, "filetype": "bdist_wheel"}
        parts = [
            f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in fields.items()
        ]
        file = f"{name}-{version}-py3-none-any.whl"
        parts.append(f'--B\r\nContent-Disposition: form-data; name="content"; filename="{file}"\r\n\r\n'.encode())
        body = b"".join([*parts, stream.getvalue(), b"\r\n--B--\r\n"])
        answer = ask(self.index, "POST", body, X_Devpi_Auth=self.auth, Content_Type="multipart/form-data; boundary=B")
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.text[:300]}")


def call(method: str, path: str, body: Any, auth: str = "") -> Any:
    """Send devpi a request as its own client does, and return the ``result`` of its JSON."""
    headers = {"Accept": "application/json", "Content_Type": "application/json"}
    if auth:
        headers["X_Devpi_Auth"] = auth
    answer = ask(path, method, json.dumps(body).encode(), **headers)
    if answer.status >= 300:
        raise AssertionError(f"{method} {path}: {answer.status} {answer.text[:300]}")
    return json.loads(answer.body or b"{}").get("result")
