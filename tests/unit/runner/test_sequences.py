# SPDX-License-Identifier: GPL-3.0-or-later
"""The test sequences of the scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner import scenario

PROJECT = Path(__file__).parents[3]
FOLDERS = sorted(path.parent for path in PROJECT.glob("molecule/*/molecule.yml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_all_playbooks_exist(monkeypatch, folder):
    monkeypatch.setattr(scenario, "MOLECULE", folder.parent)
    monkeypatch.setattr(scenario, "SHARED_CONFIG", PROJECT / ".config" / "molecule" / "config.yml")
    playbooks = [path for action in scenario.test_sequence(folder.name) for path in action.split()[1:]]
    assert [path for path in playbooks if not (folder / path).exists()] == []
