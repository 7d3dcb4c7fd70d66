# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples in the documentation have roles, entry points, variables and values that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")])
# The role managed_host is internal.
ROLES = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
BLOCK = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The hosts of the playbooks.
PLAYBOOK_VARIABLES = {"devpi_mirror_hosts"}
TYPES = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict}


def entry_points(role: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]


OPTIONS = {name: option for role in ROLES for name, option in entry_points(role)["main"]["options"].items()}


def settings(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a block with their values, at all levels."""
    if isinstance(node, dict):
        yield from node.items()
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from settings(child)


def included_roles(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the roles of the collection that a block applies, with their entry points."""
    for key, value in settings(node):
        if key == "role":
            yield value, "main"
        elif key == "ansible.builtin.include_role":
            yield value["name"], value.get("tasks_from", "main")


def errors(text: str) -> list[str]:
    """Return what is wrong with the examples of a page."""
    found = []
    for block in BLOCK.findall(text):
        example = yaml.safe_load(block)
        for role, entry_point in included_roles(example):
            name = role.replace("devpi.mirror.", "", 1)
            if name not in ROLES or entry_point not in entry_points(name):
                found.append(f"{role} has no entry point {entry_point}")
        for name, value in settings(example):
            if re.match(r"(devpi_mirror|devpi_server|docker_engine|pip_client)_", str(name)):
                found += wrong_values(name, value)
    return found


def wrong_values(name: str, value: Any) -> list[str]:
    """Return what is wrong with a variable and its value."""
    if name in PLAYBOOK_VARIABLES or "{{" in str(value):
        return []
    if name not in OPTIONS:
        return [f"there is no variable {name}"]
    option = OPTIONS[name]
    values = value if isinstance(value, list) else [value]
    if not isinstance(value, TYPES[option["type"]]) or any(one not in option.get("choices", [one]) for one in values):
        return [f"{name} can't be {value!r}"]
    return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_agree_with_the_roles(page):
    assert errors(page.read_text()) == []


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_an_example_of_itself(role):
    text = (ROOT / "roles" / role / "README.md").read_text()
    applied = [name for block in BLOCK.findall(text) for name, _entry in included_roles(yaml.safe_load(block))]
    assert f"devpi.mirror.{role}" in applied


def test_wrong_examples_are_found():
    page = """\
```yaml
- hosts: all
  roles:
    - role: devpi.mirror.workstation
      vars:
        devpi_mirror_port: 3142
        devpi_mirror_prot: 3142
        pip_client_tools: [pip, conda]
        devpi_server_backup_keep: many
  tasks:
    - ansible.builtin.include_role:
        name: devpi.mirror.devpi_server
        tasks_from: repair
```
"""
    assert errors(page) == [
        "devpi.mirror.devpi_server has no entry point repair",
        "there is no variable devpi_mirror_prot",
        "pip_client_tools can't be ['pip', 'conda']",
        "devpi_server_backup_keep can't be 'many'",
    ]
