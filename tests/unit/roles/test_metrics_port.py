# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What metrics change in the container, and which ports are refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from cases import HOST, ROLE, last_result, run_cases
from test_scheduled_backups import values_after

IMAGE = ROLE / "files" / "image" / "devpi_mirror"


TLS = {"devpi_server_tls_certificate": "/a.pem", "devpi_server_tls_key": "/a.key", "devpi_server_tls_port": 9191}
# Variables, and the texts of the error.
PORTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "free": ({}, []),
    "port-of-disabled-tls": ({"devpi_server_tls_port": 9191}, []),
    "invalid": ({"devpi_server_metrics_port": 70000}, ["devpi_server_metrics_port is '70000'", "from 1 to 65535"]),
    "port-of-the-mirror": (
        {"devpi_mirror_port": 9191},
        ["devpi_server_metrics_port and devpi_mirror_port are both 9191"],
    ),
    "port-of-tls": (TLS, ["devpi_server_metrics_port and devpi_server_tls_port are both 9191"]),
    "in-use": (
        {"listener": {"address": "127.0.0.1", "program": "python3"}},
        ["Port 9191 of 127.0.0.1 is in use by python3", "set devpi_server_metrics_port to a free port"],
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the result of the last task of each case."""
    folder = tmp_path_factory.mktemp("metrics")
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight" / "metrics.yml").read_text())
    # The state of the port is that of the test.
    checks = [task for task in tasks if "devpi.mirror.host_info" not in task]
    assert len(checks) == len(tasks) - 1
    (folder / "check.yml").write_text(json.dumps(checks))
    cases: dict[str, dict[str, Any]] = {
        "no-metrics": {},
        "metrics": {"devpi_server_metrics_port": 9191, "devpi_server_bind_address": "0.0.0.0"},
    }
    for name, (variables, _texts) in PORTS.items():
        cases[name] = {"tested_tasks": str(folder / "check.yml"), "devpi_server_metrics_port": 9191, **variables}
        state = {"listener": cases[name].pop("listener", None), "publisher": ""}
        cases[name]["__devpi_server_metrics_port_state"] = state
    names = ["__devpi_server_port_arguments", "__devpi_server_env"]
    cases = {name: {"__devpi_server_host": HOST, "names": names, **variables} for name, variables in cases.items()}
    return {name: last_result(results) for name, results in run_cases(folder, cases).items()}


def test_without_metrics_nothing_is_published(found: dict[str, dict[str, Any]]) -> None:
    values = found["no-metrics"]["msg"]
    assert values_after(values["__devpi_server_port_arguments"], "--label") == []
    assert not any("3190" in argument for argument in values["__devpi_server_port_arguments"])
    # A changed variable would restart the mirror.
    assert "DEVPI_MIRROR_METRICS" not in values["__devpi_server_env"]


def test_metrics_are_published_on_loopback_alone(found: dict[str, dict[str, Any]]) -> None:
    values = found["metrics"]["msg"]
    arguments = values["__devpi_server_port_arguments"]
    (port,) = re.findall(r"^METRICS_PORT = (\d+)", (IMAGE / "config.py").read_text(), re.MULTILINE)
    published = [value for value in values_after(arguments, "--publish") if "9191" in value]
    assert published == [f"127.0.0.1:9191:{port}"]
    assert values_after(arguments, "--label") == ["devpi.mirror.metrics=127.0.0.1:9191"]
    assert values["__devpi_server_env"]["DEVPI_MIRROR_METRICS"] == "true"


@pytest.mark.parametrize("case", PORTS)
def test_ports_that_can_not_be_used_are_refused(found: dict[str, dict[str, Any]], case: str) -> None:
    expected = PORTS[case][1]
    result = found[case]
    assert result.get("failed", False) is bool(expected), result
    if expected:
        assert [text for text in [*expected, "Nothing was changed"] if text not in result["msg"]] == []
