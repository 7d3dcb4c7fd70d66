# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each task file and template that a role names exists exactly once, and the role uses each one that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
INCLUDES = {f"{prefix}{kind}_tasks" for prefix in ("", "ansible.builtin.") for kind in ("include", "import")}
ROLE_INCLUDES = {f"{prefix}{kind}_role" for prefix in ("", "ansible.builtin.") for kind in ("include", "import")}
PLAYBOOKS = [
    *(ROOT / "playbooks").glob("*.yml"),
    *ROOT.glob("roles/*/tasks/**/*.yml"),
    *ROOT.glob("tests/prerequisites/*.yml"),
]


def walk(value: Any) -> Iterator[Any]:
    """Yield all values in a YAML document, but no keys."""
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)


def mappings(document: Any) -> list[dict[str, Any]]:
    return [value for value in walk(document) if isinstance(value, dict)]


def documents(folder: Path) -> dict[Path, Any]:
    return {path: yaml.safe_load(path.read_text()) for path in sorted(folder.rglob("*.yml"))}


def files(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def expand(reference: str, existing: set[str]) -> set[str]:
    """Return the existing files that a reference can mean. An expression stands for one name in a folder."""
    parts = re.split(r"\{\{.*?\}\}", reference)
    return {name for name in existing if re.fullmatch("[^/]+".join(map(re.escape, parts)), name)}


def included(tasks: Path) -> list[tuple[Path, str]]:
    """Return the task files that the files of a role include, each with the file that includes it."""
    found = []
    for path, document in documents(tasks).items():
        for task in mappings(document):
            for name in INCLUDES & set(task):
                found.append((path, task[name]["file"] if isinstance(task[name], dict) else task[name]))
    return found


def entry_points(role: str) -> set[str]:
    """Return the task files that playbooks and other roles can start at."""
    specs = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    # The internal role has none.
    found = {*yaml.safe_load(specs.read_text())["argument_specs"]} if specs.exists() else set()
    for path in PLAYBOOKS:
        for task in mappings(yaml.safe_load(path.read_text())):
            for name in ROLE_INCLUDES & set(task):
                if task[name]["name"] in (role, f"devpi.mirror.{role}"):
                    found.add(task[name].get("tasks_from", "main"))
    return {f"{point}.yml" for point in found}


@pytest.mark.parametrize("role", ROLES)
def test_each_included_task_file_exists(role):
    tasks = ROOT / "roles" / role / "tasks"
    existing = files(tasks, "*.yml")
    missing = [(str(path), reference) for path, reference in included(tasks) if not expand(reference, existing)]
    assert missing == []


@pytest.mark.parametrize("role", ROLES)
def test_an_included_path_has_one_meaning(role):
    # Releases of Ansible differ in which folder they search first: the including file's or the role's.
    tasks = ROOT / "roles" / role / "tasks"
    existing = files(tasks, "*.yml")
    for path, reference in included(tasks):
        for folder in path.relative_to(tasks).parents[:-1]:
            assert not expand(f"{folder}/{reference}", existing), f"{path} includes {reference}"


@pytest.mark.parametrize("role", ROLES)
def test_each_task_file_is_used(role):
    tasks = ROOT / "roles" / role / "tasks"
    existing = files(tasks, "*.yml")
    points = entry_points(role)
    assert points <= existing
    used = {name for _path, reference in included(tasks) for name in expand(reference, existing)}
    assert existing - points - used == set()


def test_only_entry_points_are_outside_of_folders():
    tasks = ROOT / "roles" / "devpi_server" / "tasks"
    assert {path.name for path in tasks.glob("*.yml")} == entry_points("devpi_server")


@pytest.mark.parametrize("role", ROLES)
def test_templates_exist_and_each_is_used(role):
    folder = ROOT / "roles" / role
    values = [value for kind in ("defaults", "tasks", "vars") for value in walk([*documents(folder / kind).values()])]
    named = {name for text in values if isinstance(text, str) for name in re.findall(r"[\w./-]+\.j2\b", text)}
    assert named == files(folder / "templates", "*.j2")


@pytest.mark.parametrize("action", ["start", "stop"])
def test_each_init_system_has_a_task_file(action):
    role = ROOT / "roles" / "devpi_server"
    inits = yaml.safe_load((role / "vars" / "main" / "service.yml").read_text())["__devpi_server_inits"]
    assert files(role / "tasks" / "service" / action, "*.yml") == {f"{init}.yml" for init in inits}


@pytest.mark.parametrize("role", ROLES)
def test_no_file_depends_on_the_configuration_of_the_controller(role):
    # The configuration hash of the mirror covers its files: another controller's ansible_managed would restart it.
    paths = [path for path in (ROOT / "roles" / role).rglob("*") if path.is_file() and "files" not in path.parts]
    assert [str(path) for path in paths if "{{ ansible_managed" in path.read_text()] == []
