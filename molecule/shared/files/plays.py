# SPDX-License-Identifier: GPL-3.0-or-later
"""Run playbooks on the test host with any release of ansible-core, and read what they leave on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = os.environ["HOST"]
# The connection plugin to the test host is part of a collection that only the environment of the tests has.
COLLECTIONS = sysconfig.get_path("purelib")
REMOVE_ALL = {"devpi_server_remove_data": True}
# What the mirror consists of on a host, except its data: files with owner and mode, contents, and Docker's objects.
LIST_STATE = """
find /etc /home /root /run /usr/local /var/lib/devpi-mirror \\( -name '*devpi*' -o -path '*/pip/*' \\) 2>/dev/null |
    grep -v '\\.sock$' | sort | while read -r path; do
    stat --format '%n %U:%G %a' "$path"
    if [ -f "$path" ]; then sha256sum <"$path"; fi
done
docker ps --all --format '{{.Names}} {{.Image}} {{.Label "devpi.mirror.config"}}'
docker image ls --format '{{.Repository}}:{{.Tag}}'
docker network ls --format '{{.Name}}'
docker volume ls --format '{{.Name}}' | sed '/^[0-9a-f]*$/d'
"""


@dataclass(frozen=True)
class Outcome:
    """How a play ended: its exit status, the tasks that changed something, and its output."""

    status: int
    changed: list[str]
    output: str


def playbook_command(release: str | None) -> str:
    """Return the ``ansible-playbook`` of a release of ansible-core, that of the tests by default."""
    if release is None:
        return "ansible-playbook"
    environments = Path(os.environ["DEVPI_MIRROR_TEST_CACHE"]).parent / ".venv"
    return str(environments / f"ansible-{release}" / "bin" / "ansible-playbook")


def run_play(
    playbook: str,
    *options: str,
    release: str | None = None,
    env: dict[str, str] | None = None,
    variables: dict[str, Any] | None = None,
) -> Outcome:
    """Run a playbook on the test host, by its name or path, with extra variables."""
    command = [playbook_command(release), "--inventory", os.environ["MOLECULE_INVENTORY_FILE"]]
    command += ["--extra-vars", json.dumps(variables or {}), *options, playbook]
    environment = dict(os.environ, **(env or {}))
    # Its plugins are not part of ansible-core.
    environment.pop("ANSIBLE_CALLBACKS_ENABLED", None)
    environment["ANSIBLE_COLLECTIONS_PATH"] += f":{COLLECTIONS}"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    changed = re.findall(r"^TASK \[(.*)\] \*+\n(?:(?!TASK \[|PLAY ).*\n)*?changed: ", done.stdout, re.MULTILINE)
    return Outcome(done.returncode, changed, done.stdout + done.stderr)


def succeed(playbook: str, *options: str, **settings: Any) -> Outcome:
    """Run a playbook that must succeed."""
    outcome = run_play(playbook, *options, **settings)
    assert outcome.status == 0, outcome.output[-6000:]
    return outcome


def on_host(script: str, user: str = "root") -> str:
    """Return what a shell script prints on the test host."""
    command = ["docker", "exec", "--user", user, HOST, "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state() -> list[str]:
    """Return what the mirror consists of on the host."""
    return on_host(LIST_STATE).splitlines()


@dataclass(frozen=True)
class Life:
    """What happens to a host from the deployment of a mirror to its removal, and its state in between and at the end."""

    deployed: list[str]
    state: list[str]
    removed: list[str]
    state_after: list[str]


def live(release: str | None = None, playbook: str = "devpi.mirror.site", env: dict[str, str] | None = None) -> Life:
    """Deploy the mirror, check that a second run changes nothing, and remove it."""
    try:
        deployed = succeed(playbook, release=release, env=env)
        found = state()
        assert succeed(playbook, release=release, env=env).changed == []
    finally:
        removed = succeed("devpi.mirror.remove", release=release, variables=REMOVE_ALL)
    return Life(deployed.changed, found, removed.changed, state())
