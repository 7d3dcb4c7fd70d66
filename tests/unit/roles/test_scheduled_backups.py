# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What scheduled backups change on the host and in the container."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import yaml
from cases import HOST, ROLE, last_result, run_cases

# A case has a schedule of the mirrored files or not, the user of the image, and the owner of the folder.
SCHEDULES = {"schedule": (False, "", "53141"), "mirrored-files": (True, "1234:5678", "1234")}
# A case has a Docker daemon that maps users or not, a folder, and the texts of the error.
FOLDERS: dict[str, tuple[bool, str, list[str]]] = {
    "remaps-users": (
        True,
        "/srv/backups",
        ["maps the users of containers", "Leave devpi_server_backup_every empty"],
    ),
    "colon": (
        False,
        "/srv/a:b",
        ["devpi_server_backup_folder is '/srv/a:b'", "Set devpi_server_backup_folder to another path"],
    ),
    "folder": (False, "/srv/backups", []),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the result of the last task of each case."""
    folder = tmp_path_factory.mktemp("backups")
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight" / "apply.yml").read_text())
    (task,) = (task for task in tasks if task["name"].endswith("the container can write scheduled backups"))
    (folder / "check.yml").write_text(json.dumps([task]))
    names = [
        f"__devpi_server_{suffix}" for suffix in ("container_arguments", "env", "run_candidate", "scheduled_owner")
    ]
    cases: dict[str, dict[str, Any]] = {
        "no-schedule": {"devpi_server_backup_keep": 3, "devpi_server_backup_mirrored_files": True}
    }
    for name, (mirrored_files, user, _owner) in SCHEDULES.items():
        cases[name] = {
            "devpi_server_name": "cache",
            "devpi_server_backup_every": "12h",
            "devpi_server_backup_folder": "/srv/backups",
            "devpi_server_backup_mirrored_files": mirrored_files,
            "devpi_server_image_user": user,
        }
    for name, (remaps_users, path, _texts) in FOLDERS.items():
        cases[name] = {
            "tested_tasks": str(folder / "check.yml"),
            "__devpi_server_host": {**HOST, "engine": {**HOST["engine"], "remaps_users": remaps_users}},
            "devpi_server_backup_every": "1d",
            "devpi_server_backup_folder": path,
        }
    cases = {name: {"__devpi_server_host": HOST, "names": names, **variables} for name, variables in cases.items()}
    return {name: last_result(results) for name, results in run_cases(folder, cases).items()}


def values_after(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


def backup_settings(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith("DEVPI_MIRROR_BACKUP")}


def test_without_a_schedule_the_container_has_no_folder(found: dict[str, dict[str, Any]]) -> None:
    values = found["no-schedule"]["msg"]
    assert values_after(values["__devpi_server_container_arguments"], "--volume") == ["devpi-data:/data"]
    # A changed variable would restart the mirror.
    assert backup_settings(values["__devpi_server_env"]) == {}
    assert str(values["__devpi_server_scheduled_owner"]) == "53141"


@pytest.mark.parametrize("case", SCHEDULES)
def test_with_a_schedule_the_container_has_a_folder_and_settings(found: dict[str, dict[str, Any]], case: str) -> None:
    mirrored_files, _user, owner = SCHEDULES[case]
    values = found[case]["msg"]
    # The folder belongs to the user of the container.
    assert str(values["__devpi_server_scheduled_owner"]) == owner
    volumes = values_after(values["__devpi_server_container_arguments"], "--volume")
    assert volumes == ["devpi-data:/data", "/srv/backups/cache-scheduled:/backups:z"]
    assert backup_settings(values["__devpi_server_env"]) == {
        "DEVPI_MIRROR_BACKUP_EVERY": "12h",
        "DEVPI_MIRROR_BACKUP_NAME": "cache",
        "DEVPI_MIRROR_BACKUP_KEEP": "7",
        "DEVPI_MIRROR_BACKUP_MIRRORED_FILES": "1" if mirrored_files else "",
    }
    # The candidate of an upgrade creates no backups.
    assert "DEVPI_MIRROR_BACKUP_EVERY=" in values_after(values["__devpi_server_run_candidate"], "--env")


def test_the_schedule_has_the_form_of_that_of_the_check() -> None:
    entries = yaml.safe_load((ROLE / "vars" / "main" / "validation.yml").read_text())["__devpi_server_value_patterns"]
    patterns = {entry["name"]: entry.get("pattern") for entry in entries}
    assert patterns["devpi_server_backup_every"] == patterns["devpi_server_scrub_every"]


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_the_container_cannot_use_is_rejected(found: dict[str, dict[str, Any]], case: str) -> None:
    expected = FOLDERS[case][2]
    result = found[case]
    assert result.get("failed", False) is bool(expected)
    assert [text for text in [*expected, "Nothing was changed"] if text not in str(result["msg"])] == (
        [] if expected else ["Nothing was changed"]
    )


def test_a_path_of_the_controller_is_not_changed_on_the_host() -> None:
    shared, scheduled = yaml.safe_load((ROLE / "tasks" / "backup" / "folder.yml").read_text())
    assert shared["when"] == "devpi_server_backup_to == 'host'"
    assert "when" not in scheduled
