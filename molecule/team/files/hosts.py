# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a team: servers, to which requests are sent over TLS, and laptops."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from harness import CONNECTION, JSON, Answer, wheel_upload
from plays import environment

PREFIX = "devpi-mirror-test-team-"
SERVERS = ("one", "two", "three")
LAPTOPS = ("ada", "bob")
FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SCENARIO = Path(__file__).parents[1]
PRIVATE = "/acme/private/"


def on(name: str, command: str) -> str:
    """Run a command on a host, and return what it prints. Raises AssertionError with the output if it fails."""
    done = subprocess.run(
        ["docker", "exec", PREFIX + name, "sh", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name}: {command}: {done.stdout}{done.stderr}"
    return done.stdout


def docker(action: str, name: str) -> None:
    subprocess.run(["docker", action, PREFIX + name], check=True, capture_output=True)


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:secret-of-{user}".encode()).decode()


class Server:
    """A server of the team, to which requests are sent over TLS."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.find_address()

    def find_address(self) -> None:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        command = ["docker", "inspect", "--format", form, PREFIX + self.name]
        self.address = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Send a request, and return the answer. Raises ``LOST`` if there is none."""
        context = ssl.create_default_context(cafile=str(FOLDER / "ca.pem"))
        connection = http.client.HTTPSConnection(self.address, 443, timeout=30, context=context)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def read(self, project: str, authorization: str = "") -> int:
        """Download the file of a private project, and return the status."""
        page = f"{PRIVATE}+simple/{project}/"
        headers = {"Authorization": authorization} if authorization else {}
        answer = self.ask(page, "GET", None, Accept=JSON, **headers)
        if answer.status != 200:
            return answer.status
        files = json.loads(answer.text)["files"]
        return self.ask(urljoin(page, files[0]["url"]), "GET", None, **headers).status if files else 404

    def upload(self, project: str) -> int:
        body, content_type = wheel_upload(project, "1.0")
        return self.ask(PRIVATE, "POST", body, Authorization=basic("acme"), Content_Type=content_type).status

    def log_in(self) -> int:
        body = json.dumps({"user": "acme", "password": "secret-of-acme"}).encode()
        return self.ask("/+login", "POST", body, Content_Type="application/json").status

    def serial(self) -> int:
        script = "import urllib.request as r; print(r.build_opener().open('http://127.0.0.1:3141/+api').headers['X-Devpi-Serial'])"
        return int(on(self.name, f'python3 -c "{script}"'))


@contextmanager
def disconnected(name: str) -> Iterator[None]:
    """Drop all packets between a host and the others."""
    rules = ("INPUT -i eth0", "OUTPUT -o eth0", "FORWARD -i eth0", "FORWARD -o eth0")
    for rule in rules:
        on(name, f"iptables -I {rule} -j DROP")
    try:
        yield
    finally:
        for rule in rules:
            on(name, f"iptables -D {rule} -j DROP")


def run_play(playbook: str, groups: dict[str, Any], *options: str, is_refused: bool = False, **variables: Any) -> str:
    """Run a playbook on hosts in other groups, and return its output.

    A group is a list of hosts, or a dictionary with the variables of each host. ``is_refused`` is whether the playbook must
    fail.
    """
    hosts = {PREFIX + name: CONNECTION for name in (*SERVERS, *LAPTOPS)}
    children = {
        group: {"hosts": {PREFIX + name: members[name] if isinstance(members, dict) else None for name in members}}
        for group, members in groups.items()
    }
    inventory = FOLDER / "changed-inventory.yml"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "children": children, "vars": variables}}))
    (FOLDER / "group_vars").unlink(missing_ok=True)
    (FOLDER / "group_vars").symlink_to(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent / "group_vars")
    path = playbook if playbook.startswith("devpi.") else str(SCENARIO / playbook)
    command = ["ansible-playbook", "--inventory", str(inventory), *options, path]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == is_refused, output[-6000:]
    return " ".join(output.split()) if is_refused else output


def install(name: str, project: str) -> None:
    """Download a package from the mirror of a laptop. Raises AssertionError."""
    script = (
        "import json, urllib.parse as p, urllib.request as r;"
        f" page = 'http://127.0.0.1:3141/root/pypi/+simple/{project}/';"
        f" found = json.load(r.urlopen(r.Request(page, headers={{'Accept': '{JSON}'}})));"
        " r.urlopen(p.urljoin(page, found['files'][0]['url'])).read()"
    )
    on(name, f'python3 -c "{script}" 2>&1')
