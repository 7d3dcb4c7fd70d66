# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that are measured, each in its own container, published on loopback as for users."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from recording import JSON

NETWORK = "devpi-mirror-bench"
ROUND_TRIP = 30  # milliseconds
RATE = 12_000_000  # bytes per second
FORMS = {"json": JSON, "html": "text/html", "any": "*/*"}
LIMIT = 120.0
HERE = Path(__file__).resolve().parent

OPENER = build_opener(ProxyHandler({}))


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def get(url: str, form: str = "json", timeout: float = 60) -> bytes:
    """Return the response to an installer's request."""
    headers = {"Accept": FORMS[form], "User-Agent": "pip/26"}
    with OPENER.open(Request(url, headers=headers), timeout=timeout) as response:
        content: bytes = response.read()
    return content


def await_answer(url: str) -> None:
    """Wait until a GET of the URL succeeds. Raises RuntimeError after ``LIMIT`` seconds."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            get(url, "any", timeout=5)
        except (URLError, OSError):
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"no answer from {url}")


class Server:
    """A container that serves an index. ``url`` is that of its simple pages, with a slash at its end."""

    def __init__(self, name: str, port: int, path: str, arguments: list[str], volume: str = "") -> None:
        self.name = f"{NETWORK}-{name}"
        self.port = port
        self.path = path
        self.arguments = arguments
        self.volume = f"{self.name}:{volume}" if volume else ""

    def start(self) -> None:
        volume = ["--volume", self.volume] if self.volume else []
        common = ["--detach", "--rm", "--network", NETWORK, "--name", self.name, "--publish", f"127.0.0.1::{self.port}"]
        docker("run", *common, *volume, *self.arguments)
        self.base = "http://" + docker("port", self.name, str(self.port)).splitlines()[0]
        self.url = self.base + self.path

    def stop(self) -> None:
        docker("rm", "--force", "--volumes", self.name)
        if self.volume:
            deadline = time.monotonic() + LIMIT
            volume = self.volume.split(":", maxsplit=1)[0]
            # The Docker daemon releases it a moment after the container.
            while volume in docker("volume", "ls", "--quiet").splitlines():
                try:
                    docker("volume", "rm", volume)
                except RuntimeError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)

    def address(self) -> str:
        """Return its address on the network of the servers."""
        return docker(
            "inspect", "--format", f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}', self.name
        )

    def control_group(self, kind: str, *names: str) -> str:
        """Return the content of a file of the container's control group. ``names`` are its names in version 1 and 2."""
        for path in (f"/sys/fs/cgroup/{kind}/{names[0]}", f"/sys/fs/cgroup/{names[-1]}"):
            try:
                return docker("exec", self.name, "cat", path)
            except RuntimeError:
                continue
        raise RuntimeError(f"the container has no control group for {kind}")

    def memory(self) -> int:
        """Return the bytes of the container's memory that the kernel can't reclaim."""
        values = dict(line.split() for line in self.control_group("memory", "memory.stat").splitlines())
        if "anon" in values:
            return int(values["anon"]) + int(values["slab"])
        return int(values["total_rss"]) + int(values["total_shmem"])

    def processor_seconds(self) -> float:
        """Return the processor time that the container has used."""
        usage = self.control_group("cpuacct", "cpuacct.usage", "cpu.stat")
        return int(usage) / 1e9 if usage.isdigit() else int(usage.split()[1]) / 1e6

    def await_idle(self) -> None:
        """Wait until it is idle: requests can outlive the clients that sent them."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            before = self.processor_seconds()
            time.sleep(0.5)
            if self.processor_seconds() - before < 0.05:
                return
        raise RuntimeError(f"{self.name} does not become idle")


def replay(name: str, folder: Path, image: str, path: str) -> Server:
    """nginx with recorded pages and files."""
    volumes = ["--volume", f"{folder}:/replay:ro", "--volume", f"{HERE / 'replay.conf'}:/replay.conf:ro"]
    command = ["--user", "0", "--entrypoint", "/usr/sbin/nginx", *volumes, image, "-e", "stderr", "-c", "/replay.conf"]
    return Server(name, 8080, path, command)


def link(name: str, image: str, upstream: Server, path: str = "/simple/") -> Server:
    """An upstream behind an emulated network link."""
    command = ["--entrypoint", "/usr/bin/python3", "--volume", f"{HERE / 'link.py'}:/link.py:ro", image, "/link.py"]
    return Server(name, 8080, path, [*command, "8080", f"{upstream.name}:8080", str(ROUND_TRIP), str(RATE)])


def mirror(name: str, image: str, upstream: str, *options: str) -> Server:
    """The collection's container, with the role's arguments of docker run."""
    limits = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--memory", "768m"]
    limits += [
        "--memory-swap",
        "768m",
        "--pids-limit",
        "256",
        "--tmpfs",
        "/tmp:rw,nosuid,nodev,noexec,size=16m,mode=1777",
    ]
    settings = ["--env", f"DEVPI_MIRROR_UPSTREAM_URL={upstream}", *options]
    return Server(name, 3141, "/root/pypi/+simple/", [*limits, *settings, image], "/data")


PLAIN = """
if [ ! -e /data/server ]; then /opt/devpi/bin/python /plain.py devpi-init --serverdir /data/server; fi
exec /opt/devpi/bin/python /plain.py devpi-server --serverdir /data/server --host 0.0.0.0 --port 3141
"""


def plain(name: str, image: str) -> Server:
    """devpi-server with its own defaults."""
    script = ["--volume", f"{HERE / 'plain.py'}:/plain.py:ro"]
    command = ["--init", *script, "--entrypoint", "/bin/sh", image, "-ec", PLAIN]
    return Server(name, 3141, "/root/pypi/+simple/", command, "/data")


def call(server: Server, method: str, path: str, body: Any, token: str = "") -> Any:
    """Send devpi a request as its own client does, with root's token if given. Returns the result of the JSON response."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token:
        headers["X-Devpi-Auth"] = base64.b64encode(f"root:{token}".encode()).decode()
    with OPENER.open(Request(server.base + path, json.dumps(body).encode(), headers, method=method)) as response:
        return json.loads(response.read()).get("result")


def log_in(server: Server, password: str) -> str:
    """Return a token of devpi's root."""
    token: str = call(server, "POST", "/+login", {"user": "root", "password": password})["password"]
    return token


def set_upstream(server: Server, upstream: str) -> None:
    """Set the upstream of a plain devpi, as ``devpi index root/pypi mirror_url=...`` does."""
    await_answer(server.base + "/+api")
    call(server, "PATCH", "/root/pypi", [f"mirror_url={upstream}"], log_in(server, ""))


def create_private_index(server: Server) -> str:
    """Create a private index of a mirror that has the public index as its base. Returns the URL of its simple pages."""
    token = log_in(server, docker("exec", server.name, "cat", "/data/root-password"))
    call(server, "PUT", "/root/private", {"bases": ["root/pypi"]}, token)
    return f"{server.base}/root/private/+simple/"


def sizes(server: Server) -> tuple[int, int]:
    """Return the bytes of a devpi's database, and of its data directory."""
    output = docker("exec", server.name, "sh", "-c", "cat /data/server/.sqlite* | wc -c; du -s -B 1 /data | cut -f 1")
    database, directory = output.split()
    return int(database), int(directory)


def proxpi(name: str, image: str, packages: Path, upstream: str) -> Server:
    """proxpi, run as its own image runs it."""
    arguments = [
        "--env",
        f"PROXPI_INDEX_URL={upstream}",
        "--env",
        "PYTHONPATH=/packages",
        "--env",
        "PROXPI_CACHE_DIR=/data/proxpi",
    ]
    arguments += ["--volume", f"{packages}:/packages:ro", "--entrypoint", "/usr/bin/python3", image, "-m", "gunicorn"]
    arguments += ["--preload", "--access-logfile", "-", "--bind", "0.0.0.0:5000", "--threads", "4", "proxpi.server:app"]
    return Server(name, 5000, "/index/", arguments, "/data")


def create_network(stack: ExitStack) -> None:
    """Create the network of the servers until the stack ends. Containers and volumes of an interrupted run are removed."""
    containers = docker("ps", "--all", "--quiet", "--filter", f"name=^{NETWORK}-")
    if containers:
        docker("rm", "--force", "--volumes", *containers.split())
    for volume in docker("volume", "ls", "--quiet", "--filter", f"name=^{NETWORK}-").split():
        docker("volume", "rm", volume)
    if NETWORK not in docker("network", "ls", "--format", "{{.Name}}").splitlines():
        docker("network", "create", NETWORK)
    stack.callback(docker, "network", "rm", NETWORK)
