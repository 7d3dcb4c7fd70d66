# SPDX-License-Identifier: GPL-3.0-or-later
"""How the roles become root and what they write: settings of a play or an inventory must not apply to their tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# Modules that set owner, group and mode of what they write, which module_defaults of a play can change.
WRITING_MODULES = (
    "assemble",
    "blockinfile",
    "copy",
    "deb822_repository",
    "file",
    "get_url",
    "ini_file",
    "lineinfile",
    "replace",
    "template",
    "unarchive",
    "yum_repository",
)
SUDO = {
    "root": "TEST_UID=0",
    "other": "TEST_UID=1001",
    "denied": "echo 'ada is not in the sudoers file.' >&2; exit 1",
}


def tasks(content: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all tasks and blocks of a task file."""
    for task in content:
        yield task
        for section in ("block", "rescue", "always"):
            yield from tasks(task.get(section, []))


def test_tasks_that_become_another_user_become_root() -> None:
    wrong = [
        (str(path.relative_to(ROOT)), task.get("name"))
        for path in sorted(ROOT.glob("roles/*/tasks/**/*.yml"))
        for task in tasks(yaml.safe_load(path.read_text()) or [])
        if task.get("become") is True and task.get("become_user") != "root"
    ]
    assert wrong == []


def writes(task: dict[str, Any]) -> dict[str, Any] | None:
    """Return the options of a task that writes a file on the host, or None."""
    for name in WRITING_MODULES:
        options = task.get(name, task.get(f"ansible.builtin.{name}"))
        if isinstance(options, dict) and options.get("state") != "absent" and task.get("delegate_to") != "localhost":
            return options
    return None


def test_tasks_that_write_a_file_set_owner_group_and_mode() -> None:
    wrong = [
        (str(path.relative_to(ROOT)), task.get("name"))
        for path in sorted(ROOT.glob("roles/*/tasks/**/*.yml"))
        for task in tasks(yaml.safe_load(path.read_text()) or [])
        for options in [writes(task)]
        if options is not None and not {"owner", "group", "mode"} <= set(options)
    ]
    assert wrong == []


def controller_tasks() -> Iterator[dict[str, Any]]:
    """Yield the tasks of the roles that write on the controller."""
    for path in sorted(ROOT.glob("roles/*/tasks/**/*.yml")):
        for task in tasks(yaml.safe_load(path.read_text()) or []):
            if "delegate_to" in task or "ansible.builtin.fetch" in task:
                yield task


def test_module_defaults_of_the_play_do_not_apply_on_the_controller(tmp_path: Path) -> None:
    """The role's own tasks run here with defaults that would change their result, in a play without the tasks on the host."""
    backup = tmp_path / "devpi.tar"
    backup.write_text("backup")
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {
            "ansible.builtin.file": {"owner": "12345", "group": "12345", "attributes": "none", "access_time": "none"},
            "ansible.builtin.fetch": {"validate_checksum": "none"},
        },
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "devpi_server_name": "devpi",
            "__devpi_server_to_controller": True,
            # The tasks are sorted by their file, and the removal of old backups is the first one.
            "__devpi_server_backup_count": 0,
            "__devpi_server_backup_name": "devpi-20261101T030000Z.tar",
            "__devpi_server_backup_part": str(backup),
            "__devpi_server_backup_target": str(tmp_path / "backups" / "host"),
        },
        "tasks": list(controller_tasks()),
    }
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([play]))
    (tmp_path / "backups" / "host").mkdir(parents=True)
    outdated = tmp_path / "backups" / "host" / "devpi-20261031T030000Z.tar"
    outdated.write_text("outdated")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--connection", "local", str(playbook)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = [outdated.parent, outdated.with_name("devpi-20261101T030000Z.tar")]
    assert [(oct(path.stat().st_mode)[-3:], path.stat().st_uid) for path in written] == [
        ("700", os.geteuid()),
        ("600", os.geteuid()),
    ]
    assert not outdated.exists()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the check for root privileges prints for each sudo command, in check mode."""
    folder = tmp_path_factory.mktemp("privileges")
    programs = {
        "id": '#!/bin/sh\nif [ "$1" = -u ]; then echo "$TEST_UID"; else echo ada; fi\n',
        **{
            name: f'#!/bin/sh\n{text}\nexport TEST_UID\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec "$@"\n'
            for name, text in SUDO.items()
        },
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    inventory = folder / "hosts"
    inventory.write_text("".join(f"{name} ansible_become_exe={folder / name}\n" for name in SUDO))
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "ANSIBLE_BECOME_ALLOW_SAME_USER": "true"}
    # A result is then in one line, with the name of its host.
    env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--check", "--inventory", str(inventory)]
    command.append(str(HERE / "privileges.yml"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return {name: "\n".join(line for line in lines if f"[{name}]" in line) for name in SUDO}


def test_root_passes_the_check(output: dict[str, str]) -> None:
    assert "ok: [root]" in output["root"]
    assert "fatal" not in output["root"]


@pytest.mark.parametrize(
    ("name", "cause"), [("other", "Cause: tasks run with UID 1001"), ("denied", "ada is not in the sudoers file.")]
)
def test_missing_privileges_are_reported_with_the_connecting_user(
    output: dict[str, str], name: str, cause: str
) -> None:
    assert "the user ada can't become root. Nothing was changed." in output[name]
    assert cause in output[name]
