# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that only this collection's image supports are refused for other images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_scheduled_backups import ROLE, run


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({"devpi_server_metrics_port": 9191, "devpi_server_image_socket_folder": "/run/mirror"}, ""),
        ({"devpi_server_metrics_port": 9191}, "devpi_server_metrics_port is set"),
        ({"devpi_server_role": "replica"}, "devpi_server_role is set"),
        ({"devpi_server_tls_certificate": "/a.pem"}, "devpi_server_tls_certificate is set"),
        (
            {"devpi_server_role": "primary", "devpi_server_ldap": {"url": "ldaps://ldap.example.com"}},
            "devpi_server_role and devpi_server_ldap are set",
        ),
    ],
)
def test_variables_that_an_image_does_not_support(tmp_path: Path, variables: dict[str, Any], expected: str) -> None:
    tasks = yaml.safe_load((ROLE / "tasks" / "preflight" / "apply.yml").read_text())
    (check,) = (task for task in tasks if "the image has what" in task["name"])
    (tmp_path / "check.yml").write_text(json.dumps([check]))
    result = run(tmp_path, tmp_path / "check.yml", devpi_server_image="example/devpi:1", **variables)
    assert result.get("failed", False) is bool(expected), result
    if expected:
        texts = (expected, "example/devpi:1 is not named as this collection's image", "Nothing was changed")
        assert [text for text in texts if text not in result["msg"]] == []
