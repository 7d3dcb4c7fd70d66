"""How the roles become root: a play's or an inventory's other ``become_user`` must not apply to their tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import yaml

ROOT = Path(__file__).parents[3]


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
