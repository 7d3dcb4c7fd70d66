# SPDX-License-Identifier: GPL-3.0-or-later
"""Define the status with which the upstream responds to requests for a project."""

from __future__ import annotations

from harness import UPSTREAM_PORT, send


def set_status(kind: str, name: str, status: int) -> None:
    """Set the status of the responses to requests for the ``page`` or the ``files`` of a project. 200 restores them."""
    assert send(UPSTREAM_PORT, f"/+{kind}/{name}/{status}", "POST").status == 200
