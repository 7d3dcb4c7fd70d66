# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked before a replica is promoted."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_scheduled_backups import HOST, ROLE, run_tasks

STATE = {"role": "replica", "primary_uuid": "one", "primary_url": "https://one", "serial": 5, "release": 6}


@pytest.mark.parametrize(("release", "is_refused"), [("6", False), ("7", True)])
def test_a_promotion_does_not_upgrade(tmp_path: Path, release: str, is_refused: bool) -> None:
    container = {"volumes": ["devpi-data"], "running": True, "image": "a"}
    results = run_tasks(
        tmp_path,
        ROLE / "tasks" / "replication" / "promote.yml",
        ansible_become=False,
        devpi_server_release=release,
        devpi_server_replication_state=STATE,
        __devpi_server_host={**HOST, "container": container, "volumes": ["devpi-data"]},
    )
    failed = [result["msg"] for result in results.values() if result.get("failed")]
    refused = [message for message in failed if "runs release 6, and a promotion does not upgrade" in message]
    assert len(refused) == is_refused, failed
