# SPDX-License-Identifier: GPL-3.0-or-later
"""What the maintenance keeps between its runs."""

from __future__ import annotations

import json
import os

import pytest


def test_the_state_survives_a_restart_except_for_the_counts(maintenance):
    module = maintenance.state
    module.STARTED.touch()
    state = module.read_state()
    state["requests"]["hit"] = 7
    state["scrub"] = {"at": 1, "files": 2, "damaged": 0, "lost": [], "error": ""}
    module.write_state(state)
    assert module.read_state()["requests"]["hit"] == 7
    os.utime(module.STARTED, (5, 5))
    again = module.read_state()
    assert (again["requests"]["hit"], again["scrub"]["at"]) == (0, 1)
    assert json.loads(module.STATE.read_text())["started"] != again["started"]


@pytest.mark.parametrize("text", ["[]", "x", "null"])
def test_an_unusable_state_is_replaced(maintenance, text):
    maintenance.state.STATE.write_text(text)
    assert maintenance.state.read_state()["problems"] == []


def test_the_state_of_an_earlier_release_is_used(maintenance):
    module = maintenance.state
    (maintenance.config.DATA / "caretaker.json").write_text(json.dumps({"problems": ["The disk is full."]}))
    assert module.read_state()["problems"] == ["The disk is full."]
    assert module.read_state()["problems"] == ["The disk is full."]


def test_damaged_files_of_an_earlier_release_have_the_new_key(maintenance):
    maintenance.state.STATE.write_text(json.dumps({"damaged": [{"file": "a", "found": 1, "mended": False}]}))
    assert maintenance.state.read_state()["damaged"] == [{"file": "a", "found": 1, "is_downloadable": False}]


def test_the_state_is_kept_while_the_disk_is_full(maintenance):
    module = maintenance.state
    module.write_state({"problems": []})
    # It can't be written.
    staged = module.STATE.with_name("maintenance.json.new")
    staged.mkdir()
    module.write_state({"problems": ["The disk is full."]})
    assert module.read_state()["problems"] == ["The disk is full."]
    staged.rmdir()
    module.write_state({"problems": []})
    assert module.read_state()["problems"] == []
    assert not module.TEMPORARY_STATE.exists()
