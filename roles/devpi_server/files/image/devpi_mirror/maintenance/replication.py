# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the replication, from devpi's status and a request to the primary. The module devpi_info judges it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .probe import masked, request

# Files that could not be replicated, and that the status lists.
ERRORS_LISTED = 100
# Seconds since its last request for which a replica counts as polling. It polls every 30 s.
POLLING = 60


def role(about: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the role of the server. devpi's status does not distinguish a standalone server from a primary."""
    if about["role"] == "REPLICA":
        return "replica"
    return "primary" if environ.get("DEVPISERVER_ROLE") == "primary" else "standalone"


def reported(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what devpi reports about a replica. Values are None until its primary has responded."""
    return {
        "serial": about["serial"],
        "primary_serial": about["primary-serial"],
        "started_at": about["replica-started-at"],
        "updated_at": about["update-from-primary-at"],
        "in_sync_at": about["replica-in-sync-at"],
        "error_count": len(about["replication-errors"]),
    }


def is_in_sync(state: Mapping[str, Any]) -> bool | None:
    """Return whether a replica has all changes of its primary, by their serials as devpi does. None if that is unknown.

    ``in_sync_at`` is not set while a file can't be replicated, which is an error of its own.
    """
    return None if state["primary_serial"] is None else state["serial"] >= state["primary_serial"]


def replica(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a replica, and whether its primary responds."""
    errors = list(about["replication-errors"].values())[:ERRORS_LISTED]
    return {
        **reported(about),
        "at": time.time(),
        "errors": [{"file": error["relpath"], "error": str(error["message"])} for error in errors],
        "primary": primary(about["primary-url"]),
    }


def primary(url: str) -> dict[str, Any]:
    """Return whether the primary responds, and when by its clock, to compare it with that of this host."""
    sent = time.time()
    found = request(url.rstrip("/") + "/+api", "GET")
    return {"url": masked(url), "error": found.error, "date": found.date, "sent": sent, "received": time.time()}


def replicas(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the replicas that have requested changes since the start of the primary."""
    found = [
        {
            "uuid": uuid,
            "address": item["remote-ip"],
            "serial": item["serial"],
            "requested_at": item["last-request"],
        }
        for uuid, item in about["polling_replicas"].items()
    ]
    return sorted(found, key=lambda item: (item["address"], item["uuid"]))


def count_polling(about: Mapping[str, Any]) -> int:
    """Return the number of replicas that still request changes."""
    now = time.time()
    return sum(
        item["in-request"] or now - item["last-request"] < POLLING for item in about["polling_replicas"].values()
    )
