# SPDX-License-Identifier: GPL-3.0-or-later
"""Run devpi servers, and modules that change them."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from ansible.module_utils import basic

HERE = Path(__file__).resolve().parent
IMAGE = HERE.parents[2] / "roles" / "devpi_server" / "files" / "image"
# The environments of the image's tests, one for each release of devpi-server, are next to that of this Python.
ENVIRONMENTS = Path(sys.prefix).parent
ARGON2 = ["--argon2-time-cost", "1", "--argon2-memory-cost", "8192", "--argon2-parallelism", "1"]
OPENER = build_opener(ProxyHandler({}))

ROOT_PASSWORD = "root-for-this-test-alone"
ADA_PASSWORD = "ada-for-this-test-alone"
OTHER_PASSWORD = "other-for-this-test-alone"

# Return values of a module, with "failed".
Result = dict[str, Any]


class Kind(NamedTuple):
    """A release of devpi-server, and whether it has the plugin of the image."""

    release: str
    has_image_plugin: bool

    @property
    def name(self) -> str:
        return f"devpi-{self.release}-{'image' if self.has_image_plugin else 'plain'}"


KINDS = [Kind(release, has_plugin) for release in ("6", "7") for has_plugin in (False, True)]


def only(**properties: Any) -> pytest.MarkDecorator:
    """Run a test on the servers with these properties."""
    kinds = [kind for kind in KINDS if all(getattr(kind, name) == value for name, value in properties.items())]
    return pytest.mark.parametrize("server", kinds, ids=lambda kind: kind.name, indirect=True, scope="session")


# For tests of what the plugin of the image does not change.
plain = only(has_image_plugin=False)


class Change(NamedTuple):
    """The results of a module in check mode, in fact and again, and by how much the change increased devpi's serial number."""

    predicted: Result
    actual: Result
    repeated: Result
    serials: int

    @property
    def results(self) -> list[Result]:
        return [self.predicted, self.actual, self.repeated]


@dataclass(frozen=True)
class Server:
    """A running devpi server."""

    kind: Kind
    url: str
    log: Path

    def run(self, name: str, /, *, check_mode: bool = False, **options: Any) -> Result:
        """Run a module as root, and return what it prints."""
        return run_module(
            name, {"url": self.url, "url_username": "root", "url_password": ROOT_PASSWORD, **options}, check_mode
        )

    def apply(self, name: str, /, **options: Any) -> Result:
        """Run a module that must succeed."""
        result = self.run(name, **options)
        assert not result["failed"], result["msg"]
        return result

    def change(self, name: str, /, **options: Any) -> Change:
        """Run a module in check mode, in fact and again. Check mode and the repetition must change nothing."""
        before = self.serial()
        predicted = self.apply(name, check_mode=True, **options)
        assert self.serial() == before
        actual = self.apply(name, **options)
        after = self.serial()
        repeated = self.apply(name, **options)
        assert self.serial() == after
        assert predicted["changed"] == actual["changed"]
        assert not repeated["changed"]
        return Change(predicted, actual, repeated, after - before)

    def refuse(self, name: str, message: str, /, **options: Any) -> str:
        """Run a module that must fail with this message and change nothing. Returns the whole message."""
        before = self.serial()
        result = self.run(name, **options)
        assert result["failed"]
        assert message in result["msg"]
        assert self.serial() == before
        return str(result["msg"])

    def send(
        self, path: str, method: str = "GET", body: Any = None, *, user: str = "root", password: str = ROOT_PASSWORD
    ) -> Any:
        """Send a request without a module, and return the result."""
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self.open(path, method, data, "application/json", user, password)).get("result")

    def open(
        self,
        path: str,
        method: str,
        data: bytes | None,
        content_type: str,
        user: str = "root",
        password: str = ROOT_PASSWORD,
    ) -> bytes:
        """Send a request, and return the body of the response."""
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Accept": "application/json", "Content-Type": content_type, "Authorization": f"Basic {pair}"}
        with OPENER.open(Request(self.url + path, data, headers, method=method), timeout=30) as response:
            return bytes(response.read())

    def register(self, index: str, project: str, version: str) -> None:
        """Register a release without files."""
        form = urlencode({":action": "submit", "name": project, "version": version}).encode()
        self.open(f"/{index}/", "POST", form, "application/x-www-form-urlencoded")

    def serial(self) -> int:
        """Return the serial number, which every change of the database increases."""
        return int(self.send("/+status")["serial"])

    def accepts(self, user: str, password: str) -> bool:
        """Return whether a user has this password."""
        return bool(self.send("/+api", user=user, password=password)["authstatus"][0] == "ok")

    def remove_user(self, name: str) -> None:
        """Remove a user with all indexes and packages, if it exists."""
        user = self.send("/").get(name)
        if user is not None:
            for index in user.get("indexes", {}):
                self.remove_index(f"{name}/{index}")
            self.send(f"/{name}", "DELETE")

    def remove_index(self, name: str) -> None:
        """Remove an index with all packages, if it exists."""
        user, index = name.split("/")
        settings = self.send(f"/{user}").get("indexes", {}).get(index)
        if settings is None:
            return
        if not settings["volatile"]:
            self.send(f"/{name}", "PATCH", {"volatile": True})
        self.send(f"/{name}", "DELETE")


def run_module(name: str, options: dict[str, Any], check_mode: bool = False) -> Result:
    """Call ``main`` of a module as Ansible does, in diff mode, and return what it prints."""
    arguments = {**options, "_ansible_check_mode": check_mode, "_ansible_diff": True}
    module = import_module(f"ansible_collections.devpi.mirror.plugins.modules.{name}")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as output:
        patch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        # ansible-core 2.19 and later also pass the serialization profile of the arguments.
        patch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            module.main()
    return {"failed": False, **json.loads(output.getvalue())}


@contextmanager
def running(kind: Kind, folder: Path) -> Iterator[Server]:
    """Run a new server. ``folder`` gets its data and its log."""
    environ = environment(kind, folder)
    programs = ENVIRONMENTS / f"image-tests-{kind.release}" / "bin"
    data = ["--serverdir", str(folder / "server")]
    subprocess.run([programs / "devpi-init", *data], env=environ, check=True, capture_output=True)
    port = choose_port()
    server = Server(kind, f"http://127.0.0.1:{port}", folder / "devpi.log")
    options = ["--port", str(port), "--restrict-modify", "root", "--offline-mode", *ARGON2]
    command = [str(programs / "devpi-server"), *data, *options]
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        wait_until_ready(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def environment(kind: Kind, folder: Path) -> dict[str, str]:
    """Create the folders of a server, and return its environment, in which devpi finds the plugins."""
    plugins = {"cheap-passwords": "cheap_passwords"}
    path = [str(folder / "site"), str(HERE)]
    if kind.has_image_plugin:
        plugins["devpi-mirror"] = "devpi_mirror.plugin"
        path.append(str(IMAGE))
    info = folder / "site" / "plugins-1.0.dist-info"
    for new in (info, folder / "tmp", folder / "nginx"):
        new.mkdir(parents=True)
    # The status of the server has this name, as that of the image.
    distribution = "devpi-mirror" if "devpi-mirror" in plugins else "plugins"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    entry_points = [f"{name} = {module}\n" for name, module in plugins.items()]
    (info / "entry_points.txt").write_text("".join(["[devpi_server]\n", *entry_points]))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "DEVPISERVER_ROOT_PASSWD": ROOT_PASSWORD,
        "DEVPI_MIRROR_DATA": str(folder),
        "DEVPI_MIRROR_RUN": str(folder),
        "DEVPI_MIRROR_ETC": str(IMAGE),
    }


def choose_port() -> int:
    """Return a free port that the kernel gives to no other program until devpi listens on it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10000, first), 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("found no free port")


def wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        result = server.run("devpi_wait", level="api", timeout=1, delay=0.05)
        if not result["failed"]:
            assert result["version"].startswith(f"{server.kind.release}.")
            return
    raise AssertionError(f"devpi did not start:\n{server.log.read_text()}")
