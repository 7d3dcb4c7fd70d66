# SPDX-License-Identifier: GPL-3.0-or-later
"""The molecule scenarios of the collection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from .environment import TREE

MOLECULE = TREE / "molecule"


@dataclass(frozen=True)
class Scenario:
    """A molecule scenario, with its test hosts and their images."""

    name: str
    hosts: tuple[str, ...]
    test_images: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Scenario:
        platforms = yaml.safe_load((folder / "molecule.yml").read_text())["platforms"]
        return cls(
            folder.name,
            tuple(platform["name"] for platform in platforms),
            tuple(platform["image"].removeprefix("devpi-mirror-test-") for platform in platforms),
        )


def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name."""
    folders = sorted(path.parent for path in MOLECULE.glob("*/molecule.yml"))
    return {folder.name: Scenario.load(folder) for folder in folders}
