# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked before a replica is changed while its primary does not respond."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_scheduled_backups import HOST, ROLE, run_tasks


@pytest.mark.parametrize(
    ("volume", "text"), [("devpi-data-7", ""), ("devpi-data", "does not respond")], ids=["deployment", "upgrade"]
)
def test_only_an_upgrade_needs_the_primary(tmp_path: Path, volume: str, text: str) -> None:
    container = {"volumes": [volume], "labels": {"devpi.mirror.replication": "replica"}, "running": True, "image": "a"}
    results = run_tasks(
        tmp_path,
        ROLE / "tasks" / "preflight" / "replication.yml",
        ansible_become=False,
        devpi_server_role="replica",
        devpi_server_release="7",
        devpi_server_primary_url="http://127.0.0.1:1",
        devpi_server_replication_secret="secret",
        __devpi_server_host={**HOST, "container": container, "volumes": [volume], "image_present": True},
    )
    failed = [result["msg"] for result in results.values() if result.get("failed")]
    assert [text in message for message in failed] == [True] * bool(text), failed
