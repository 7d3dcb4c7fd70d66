# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that download are repeated, as a network can be unavailable for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
DOWNLOADING_MODULES = ("ansible.builtin.apt", "ansible.builtin.get_url", "ansible.builtin.package")


def downloads(content: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a task file that download."""
    for task in content:
        for name in DOWNLOADING_MODULES:
            if name in task and task[name].get("state") != "absent":
                yield task
        for section in ("block", "rescue", "always"):
            yield from downloads(task.get(section, []))


def test_downloads_are_repeated() -> None:
    found = [
        task for path in ROLES.glob("*/tasks/**/*.yml") for task in downloads(yaml.safe_load(path.read_text()) or [])
    ]
    assert {task["name"] for task in found} >= {"Packages | Install the packages", "Repository_apt | Download the key"}
    assert [task["name"] for task in found if "until" not in task or "retries" not in task] == []
