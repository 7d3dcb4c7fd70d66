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
            return handler(request)
        except UpstreamError:
            return HTTPServiceUnavailable(
                "This server is a replica, and its primary is unavailable. Packages are served, but nothing can be changed, "
                "and users can't log in. Try again later.",
                headers=[("Retry-After", "30")],
            )

    return tween


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
