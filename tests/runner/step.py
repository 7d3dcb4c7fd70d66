# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of a test run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .environment import TREE


@dataclass(frozen=True)
class Step:
    """A command that passes or fails.

    ``needs`` names steps that must have passed before. Of the steps with the same ``lock``, one runs at a time. ``seconds`` is
    how long it takes, roughly.
    """

    kind: str
    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    lock: str = ""
    seconds: float = 30
    folder: Path = TREE
    env: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.kind}: {self.name}"
