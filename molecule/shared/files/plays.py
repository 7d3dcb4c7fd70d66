# SPDX-License-Identifier: GPL-3.0-or-later
"""Run playbooks on the test host with any release of ansible-core, and read what they leave on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import on_host

REMOVE_ALL = {"devpi_server_remove_data": True}
# What the mirror consists of on a host, except its data: files with owner and mode, contents, and Docker's objects.
# Docker lists images of the same second in random order.
LIST_STATE = """
find /etc /home /root /run /usr/local /var/lib/devpi-mirror \\( -name '*devpi*' -o -path '*/pip/*' \\) 2>/dev/null |
    grep -v '\\.sock$' | sort | while read -r path; do
    stat --format '%n %U:%G %a' "$path"
    if [ -f "$path" ]; then sha256sum <"$path"; fi
done
docker ps --all --format '{{.Names}} {{.Image}} {{.Label "devpi.mirror.config"}}'
docker image ls --format '{{.Repository}}:{{.Tag}}' | sort
docker network ls --format '{{.Name}}'
docker volume ls --format '{{.Name}}' | sed '/^[0-9a-f]*$/d'
"""


@dataclass(frozen=True)
class Outcome:
    """How a play ended: its exit status, the tasks that changed something, and its output."""

    status: int
    changed: list[str]
    output: str


def ansible_playbook(release: str | None) -> str:
    """Return the ``ansible-playbook`` of a release of ansible-core, that of the tests by default."""
    if release is None:
        return "ansible-playbook"
    environments = Path(os.environ["DEVPI_MIRROR_TEST_CACHE"]).parent / ".venv"
    return str(environments / f"ansible-{release}" / "bin" / "ansible-playbook")


def command(
    playbook: str, *options: str, release: str | None = None, variables: dict[str, Any] | None = None
) -> list[str]:
    """Return the command that runs a playbook on the test host, by its name or path, with extra variables."""
    inventory = ["--inventory", os.environ["MOLECULE_INVENTORY_FILE"]]
    return [ansible_playbook(release), *inventory, "--extra-vars", json.dumps(variables or {}), *options, playbook]


def environment(**env: str) -> dict[str, str]:
    """Return the environment of a play, in which nothing but the play's own output is printed."""
    return {**{name: value for name, value in os.environ.items() if name != "ANSIBLE_CALLBACKS_ENABLED"}, **env}


def run_play(
    playbook: str,
    *options: str,
    release: str | None = None,
    env: dict[str, str] | None = None,
    variables: dict[str, Any] | None = None,
) -> Outcome:
    """Run a playbook, and return how it ended. The arguments are those of ``command`` and ``environment``."""
    done = subprocess.run(
        command(playbook, *options, release=release, variables=variables),
        env=environment(**(env or {})), capture_output=True, text=True, check=False,
    )  # fmt: skip
    changed = re.findall(r"^TASK \[(.*)\] \*+\n(?:(?!TASK \[|PLAY ).*\n)*?changed: ", done.stdout, re.MULTILINE)
    return Outcome(done.returncode, changed, done.stdout + done.stderr)


def run_as_json(playbook: str, *options: str, **settings: Any) -> dict[str, Any]:
    """Run a playbook, and return the report of its tasks and hosts."""
    done = subprocess.run(
        command(playbook, *options, **settings),
        env=environment(ANSIBLE_STDOUT_CALLBACK="ansible.posix.json"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "{" in done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return report


def succeed(playbook: str, *options: str, **settings: Any) -> Outcome:
    """Run a playbook that must succeed."""
    outcome = run_play(playbook, *options, **settings)
    assert outcome.status == 0, outcome.output[-6000:]
    return outcome


def state() -> list[str]:
    """Return what the mirror consists of on the host."""
    return on_host(LIST_STATE).splitlines()
