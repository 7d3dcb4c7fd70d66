# SPDX-License-Identifier: GPL-3.0-or-later
"""When the maintenance compacts devpi's database, and how it reports a failure."""

from __future__ import annotations

import time

import pytest


@pytest.mark.parametrize(
    ("limit", "size", "last", "is_due"),
    [
        ("", 100, None, False),
        ("50b", 100, None, True),
        ("200b", 100, None, False),
        ("50b", 100, {"at": -86401, "bytes": 60}, True),
        # It was compacted lately, and stayed above the limit.
        ("50b", 100, {"at": -86300, "bytes": 60}, False),
        ("50b", 100, {"at": -86401, "bytes": 90}, False),
    ],
)
def test_when_a_compaction_is_due(maintenance, monkeypatch, limit, size, last, is_due):
    monkeypatch.setenv("DEVPI_MIRROR_DATABASE_MAX_SIZE", limit)
    (maintenance.config.SERVERDIR / ".sqlite").write_bytes(bytes(size - 10))
    (maintenance.config.SERVERDIR / ".sqlite-wal").write_bytes(bytes(10))
    compacted = last and {**last, "at": time.time() + last["at"]}
    assert maintenance.compaction.is_due({"compacted": compacted}) == is_due


@pytest.mark.parametrize(
    ("command", "problems"),
    [(["true"], []), (["sh", "-c", "echo no >&2; exit 1"], ["Could not compact devpi's database: no"])],
)
def test_a_failed_compaction_is_a_problem(maintenance, monkeypatch, capsys, command, problems):
    monkeypatch.setattr(maintenance.compaction, "COMPACT", command)
    state = maintenance.state.read_state()
    maintenance.compaction.compact(state)
    assert maintenance.status.find_problems(state) == problems
    assert capsys.readouterr().out.startswith("Could not compact" if problems else "Compacted devpi's database")
