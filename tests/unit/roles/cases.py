# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tasks and evaluate variables of the role devpi_server for many cases in one run of Ansible, as each run takes seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.devpi import mirror

HERE = Path(__file__).parent
ROLES = HERE.parents[2] / "roles"
ROLE = ROLES / "devpi_server"
# The folder that contains ansible_collections, for the filters.
COLLECTIONS = Path(mirror.__path__[0]).parents[2]
# What host_info reports of a host without a mirror.
HOST: dict[str, Any] = {
    "engine": {
        "command": "/usr/bin/docker",
        "environment": {},
        "running": True,
        "version": "26.0",
        "remaps_users": False,
    },
    "container": None,
    "existing_paths": [],
    "memory": 0,
    "init": "systemd",
}
Results = dict[str, dict[str, Any]]


def copy_role(role: str, folder: Path) -> str:
    """Copy a role without its tasks into a folder, and return the name of the copy."""
    # With another name, as in a playbook in a collection, the name of a role of that collection would mean the whole role.
    name = f"variables_of_{role}"
    for part in ("defaults", "vars"):
        shutil.copytree(ROLES / role / part, folder / name / part)
    return name


def run_playbook(playbook: Path, inventory: list[str], roles: Path, *options: str) -> list[dict[str, Any]]:
    """Run a playbook, and return the reports of its plays."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", f"{','.join(inventory)},"]
    env = {
        **os.environ,
        "ANSIBLE_ROLES_PATH": str(roles),
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    # Other callbacks, such as profile_tasks, print more.
    env.pop("ANSIBLE_CALLBACKS_ENABLED", None)
    done = subprocess.run([*command, *options, str(playbook)], env=env, capture_output=True, text=True, check=False)
    assert "{" in done.stdout, done.stderr
    plays: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    return plays


def run_cases(folder: Path, cases: dict[str, dict[str, Any]], *options: str) -> dict[str, Results]:
    """Run cases.yml with the variables of each case, and return the results of the tasks by case and by their names."""
    defaults = {"tested_tasks": "", "names": []}
    for name, variables in cases.items():
        (folder / f"{name}.json").write_text(json.dumps({**defaults, **variables}))
    values = {
        "role": copy_role("devpi_server", folder / "roles"),
        "folder": str(folder),
        "ansible_python_interpreter": sys.executable,
    }
    options = ("--extra-vars", json.dumps(values), *options)
    (play,) = run_playbook(HERE / "cases.yml", list(cases), folder / "roles", *options)
    results: dict[str, Results] = {name: {} for name in cases}
    for task in play["tasks"]:
        for name, result in task["hosts"].items():
            results[name][task["task"]["name"]] = result
    return results


def last_result(results: Results) -> dict[str, Any]:
    """Return the result of the last task of a case, which failed if one did."""
    result: dict[str, Any] = list(results.values())[-1]
    return result
