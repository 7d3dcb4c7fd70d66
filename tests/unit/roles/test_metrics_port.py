# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What metrics change in the container, and which ports are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_scheduled_backups import ROLE, run, values_after

IMAGE = ROLE / "files" / "image" / "devpi_mirror"


def test_without_metrics_nothing_is_published(tmp_path: Path) -> None:
    found = run(tmp_path)["msg"]
    assert values_after(found["ports"], "--label") == []
    assert not any("3190" in argument for argument in found["ports"])
    # A changed variable would restart the mirror.
    assert "DEVPI_MIRROR_METRICS" not in found["env"]


def test_metrics_are_published_on_loopback_alone(tmp_path: Path) -> None:
    found = run(tmp_path, devpi_server_metrics_port=9191, devpi_server_bind_address="0.0.0.0")["msg"]
    (port,) = re.findall(r"^METRICS_PORT = (\d+)", (IMAGE / "config.py").read_text(), re.MULTILINE)
    published = [value for value in values_after(found["ports"], "--publish") if "9191" in value]
    assert published == [f"127.0.0.1:9191:{port}"]
    assert values_after(found["ports"], "--label") == ["devpi.mirror.metrics=127.0.0.1:9191"]
    assert found["env"]["DEVPI_MIRROR_METRICS"] == "true"


TLS = {"devpi_server_tls_certificate": "/a.pem", "devpi_server_tls_key": "/a.key", "devpi_server_tls_port": 9191}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, []),
        ({"devpi_server_tls_port": 9191}, []),
        ({"devpi_server_metrics_port": 70000}, ["devpi_server_metrics_port is '70000'", "from 1 to 65535"]),
        ({"devpi_mirror_port": 9191}, ["devpi_server_metrics_port and devpi_mirror_port are both 9191"]),
        (TLS, ["devpi_server_metrics_port and devpi_server_tls_port are both 9191"]),
        (
            {"listener": {"address": "127.0.0.1", "program": "python3"}},
            ["Port 9191 of 127.0.0.1 is in use by python3", "set devpi_server_metrics_port to a free port"],
        ),
    ],
)
def test_ports_that_can_not_be_used_are_refused(tmp_path: Path, variables: dict[str, Any], expected: list[str]) -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight" / "metrics.yml").read_text())
    # The state of the port is that of the test.
    checks = [task for task in tasks if "devpi.mirror.host_info" not in task]
    assert len(checks) == len(tasks) - 1
    (tmp_path / "check.yml").write_text(json.dumps(checks))
    values = {"devpi_server_metrics_port": 9191, **variables}
    state = {"listener": values.pop("listener", None), "publisher": ""}
    result = run(tmp_path, tmp_path / "check.yml", **values, __devpi_server_metrics_port_state=state)
    assert result.get("failed", False) is bool(expected), result
    if expected:
        assert [text for text in [*expected, "Nothing was changed"] if text not in result["msg"]] == []
