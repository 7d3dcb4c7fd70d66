# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What scheduled backups change on the host and in the container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.devpi import mirror

HERE = Path(__file__).parent
ROLE = HERE.parents[2] / "roles" / "devpi_server"
# The folder that contains ansible_collections, for the filters.
COLLECTIONS = Path(mirror.__path__[0]).parents[2]
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


def run(folder: Path, tested_tasks: Path | str = "", **variables: Any) -> dict[str, Any]:
    """Run the playbook, and return the result of its last task."""
    return list(run_tasks(folder, tested_tasks, **variables).values())[-1]


def run_tasks(
    folder: Path, tested_tasks: Path | str = "", *options: str, **variables: Any
) -> dict[str, dict[str, Any]]:
    """Run the playbook, and return the results of its tasks by their names."""
    # With another name, as in a playbook in a collection, the name of a role of that collection would mean the whole role.
    for name in ("defaults", "vars"):
        shutil.copytree(ROLE / name, folder / "roles" / "variables" / name, dirs_exist_ok=True)
    values = {
        "role": "variables",
        "ansible_python_interpreter": sys.executable,
        "tested_tasks": str(tested_tasks),
        "__devpi_server_host": HOST,
        **variables,
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(HERE / "scheduled_backups.yml")]
    command += ["--extra-vars", json.dumps(values), *options]
    env = {
        **os.environ,
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    }
    # Other callbacks, such as profile_tasks, print more.
    env.pop("ANSIBLE_CALLBACKS_ENABLED", None)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return {task["task"]["name"]: task["hosts"]["localhost"] for task in report["plays"][0]["tasks"]}


def values_after(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


def backup_settings(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith("DEVPI_MIRROR_BACKUP")}


def test_without_a_schedule_the_container_has_no_folder(tmp_path: Path) -> None:
    found = run(tmp_path, devpi_server_backup_keep=3, devpi_server_backup_mirrored_files=True)["msg"]
    assert values_after(found["arguments"], "--volume") == ["devpi-data:/data"]
    # A changed variable would restart the mirror.
    assert backup_settings(found["env"]) == {}
    assert str(found["owner"]) == "53141"


@pytest.mark.parametrize(("mirrored_files", "user", "owner"), [(False, "", "53141"), (True, "1234:5678", "1234")])
def test_with_a_schedule_the_container_has_a_folder_and_settings(
    tmp_path: Path, mirrored_files: bool, user: str, owner: str
) -> None:
    found = run(
        tmp_path,
        devpi_server_name="cache",
        devpi_server_backup_every="12h",
        devpi_server_backup_folder="/srv/backups",
        devpi_server_backup_mirrored_files=mirrored_files,
        devpi_server_image_user=user,
    )["msg"]
    # The folder belongs to the user of the container.
    assert str(found["owner"]) == owner
    volumes = values_after(found["arguments"], "--volume")
    assert volumes == ["devpi-data:/data", "/srv/backups/cache-scheduled:/backups:z"]
    assert backup_settings(found["env"]) == {
        "DEVPI_MIRROR_BACKUP_EVERY": "12h",
        "DEVPI_MIRROR_BACKUP_NAME": "cache",
        "DEVPI_MIRROR_BACKUP_KEEP": "7",
        "DEVPI_MIRROR_BACKUP_MIRRORED_FILES": "1" if mirrored_files else "",
    }
    # The candidate of an upgrade creates no backups.
    assert "DEVPI_MIRROR_BACKUP_EVERY=" in values_after(found["candidate"], "--env")


def test_the_schedule_has_the_form_of_that_of_the_check() -> None:
    entries = yaml.safe_load((ROLE / "vars" / "main" / "validation.yml").read_text())["__devpi_server_value_patterns"]
    patterns = {entry["name"]: entry.get("pattern") for entry in entries}
    assert patterns["devpi_server_backup_every"] == patterns["devpi_server_scrub_every"]


@pytest.mark.parametrize(
    ("remaps_users", "folder", "expected"),
    [
        (True, "/srv/backups", ["maps the users of containers", "Leave devpi_server_backup_every empty"]),
        (
            False,
            "/srv/a:b",
            ["devpi_server_backup_folder is '/srv/a:b'", "Set devpi_server_backup_folder to another path"],
        ),
        (False, "/srv/backups", []),
    ],
)
def test_a_folder_that_the_container_cannot_use_is_rejected(
    tmp_path: Path, remaps_users: bool, folder: str, expected: list[str]
) -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight" / "apply.yml").read_text())
    (task,) = (task for task in tasks if task["name"].endswith("the container can write scheduled backups"))
    (tmp_path / "check.yml").write_text(json.dumps([task]))
    host = {**HOST, "engine": {**HOST["engine"], "remaps_users": remaps_users}}
    result = run(
        tmp_path,
        tmp_path / "check.yml",
        __devpi_server_host=host,
        devpi_server_backup_every="1d",
        devpi_server_backup_folder=folder,
    )
    assert result.get("failed", False) is bool(expected)
    assert [text for text in [*expected, "Nothing was changed"] if text not in str(result["msg"])] == (
        [] if expected else ["Nothing was changed"]
    )


def test_a_path_of_the_controller_is_not_changed_on_the_host() -> None:
    shared, scheduled = yaml.safe_load((ROLE / "tasks" / "backup" / "folder.yml").read_text())
    assert shared["when"] == "devpi_server_backup_to == 'host'"
    assert "when" not in scheduled
