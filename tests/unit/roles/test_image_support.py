# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that only this collection's image supports are refused for other images."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from cases import HOST, ROLE, last_result, run_cases

# Variables, and the beginning of the error.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ""),
    "socket-folder": ({"devpi_server_metrics_port": 9191, "devpi_server_image_socket_folder": "/run/mirror"}, ""),
    "metrics": ({"devpi_server_metrics_port": 9191}, "devpi_server_metrics_port is set"),
    "replica": ({"devpi_server_role": "replica"}, "devpi_server_role is set"),
    "tls": ({"devpi_server_tls_certificate": "/a.pem"}, "devpi_server_tls_certificate is set"),
    "primary-with-ldap": (
        {"devpi_server_role": "primary", "devpi_server_ldap": {"url": "ldaps://ldap.example.com"}},
        "devpi_server_role and devpi_server_ldap are set",
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the result of the last task of each case."""
    folder = tmp_path_factory.mktemp("support")
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight" / "apply.yml").read_text())
    (check,) = (task for task in tasks if "the image has what" in task["name"])
    (folder / "check.yml").write_text(json.dumps([check]))
    shared = {
        "__devpi_server_host": HOST,
        "tested_tasks": str(folder / "check.yml"),
        "devpi_server_image": "example/devpi:1",
    }
    cases = {name: {**shared, **variables} for name, (variables, _expected) in CASES.items()}
    return {name: last_result(results) for name, results in run_cases(folder, cases).items()}


@pytest.mark.parametrize("case", CASES)
def test_variables_that_an_image_does_not_support(found: dict[str, dict[str, Any]], case: str) -> None:
    expected = CASES[case][1]
    result = found[case]
    assert result.get("failed", False) is bool(expected), result
    if expected:
        texts = (expected, "example/devpi:1 is not named as this collection's image", "Nothing was changed")
        assert [text for text in texts if text not in result["msg"]] == []
