# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action group of the collection has all modules with the options of the connection."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]


def test_the_action_group_has_all_modules_with_the_options_of_the_connection():
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    modules = (ROOT / "plugins" / "modules").glob("*.py")
    connected = {path.stem for path in modules if "  - devpi.mirror.connection\n" in path.read_text()}
    assert {name: set(group) for name, group in groups.items()} == {"mirror": connected}
