# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and playbooks need ansible-core alone: no module of another collection, nor the Python libraries that it needs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
OWN = ("ansible.builtin.", "devpi.mirror.")


def test_no_other_collection_is_used() -> None:
    paths = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("playbooks/*.yml")]
    used = {
        (str(path.relative_to(ROOT)), name)
        for path in paths
        for name in re.findall(r"^[ -]*([a-z_]+\.[a-z_]+\.[a-z_]+):", path.read_text(), re.MULTILINE)
    }
    assert used
    assert {item for item in used if not item[1].startswith(OWN)} == set()


def test_no_other_collection_is_a_dependency() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"] == {}
