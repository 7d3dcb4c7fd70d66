# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs on a replica: changes are forwarded to the primary, and its own indexes change without a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from devpi_server.replica import UpstreamError  # type: ignore[attr-defined]
from pyramid.httpexceptions import HTTPServiceUnavailable  # type: ignore[import-untyped]

# Seconds between two checks for changed indexes.
PERIOD = 5.0


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    """Respond to a change with 503, which clients retry, while the primary is unavailable."""
    if not registry["xom"].is_replica():
        return handler

    def tween(request: Any) -> Any:
        try:
            response = handler(request)
        except UpstreamError:
            return HTTPServiceUnavailable(
                "This server is a replica, and its primary is unavailable. Packages are served, but nothing can be changed, "
                "and users can't log in. Try again later.",
                headers=[("Retry-After", "30")],
            )
        # The maintenance does not send its requests through nginx, which sets this header.
        if request.path_info.strip("/") == "+status" and "X-Real-IP" in request.headers and response.status_code == 200:
            hide_names(response)
        return response

    return tween


def hide_names(response: Any) -> None:
    """Remove the names of private files that could not be replicated from devpi's status, but not their number."""
    status = response.json_body
    errors = status["result"].get("replication-errors") or {}
    status["result"]["replication-errors"] = {str(number): {} for number in range(len(errors))}
    response.json_body = status


def follow(xom: Any, update: Callable[[], None]) -> None:
    """Call ``update`` in the background after changes that a replica receives."""

    def run() -> None:
        serial = None
        while True:
            current = xom.keyfs.get_current_serial()
            if current != serial:
                update()
                serial = current
            time.sleep(PERIOD)

    threading.Thread(target=run, daemon=True).start()
