# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell nginx which mirror indexes devpi has, when devpi starts and after each change of an index."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

from . import compat, nginx, replica
from .credentials import split_credentials
from .nginx import Route
from .policy import PolicyError, policy_of


def route_of(stage: Any) -> Route:
    """Return the route of a mirror index."""
    try:
        policy = policy_of(stage.ixconfig)
        tag = policy.tag if policy else ""
    except PolicyError:
        # devpi serves nothing then.
        tag = "invalid"
    content = json.dumps([stage.name, split_credentials(compat.mirror_url(stage)).url, tag])
    return Route(hashlib.sha256(content.encode()).hexdigest()[:16], has_policy=bool(tag))


class Routes:
    """The mirror indexes that nginx serves. ``served`` has their names."""

    def __init__(self, xom: Any) -> None:
        self.xom = xom
        self.lock = threading.Lock()
        self.routes: dict[str, Route] = {}
        self.served: frozenset[str] = frozenset()

    def update(self) -> None:
        """Make nginx serve the mirror indexes that devpi has now."""
        with self.lock, self.xom.keyfs.read_transaction():
            stages = [stage for user in self.xom.model.get_userlist() for stage in user.getstages()]
            routes = {stage.name: route_of(stage) for stage in stages if compat.is_mirror(stage)}
            if routes == self.routes:
                return
            try:
                nginx.store_routes(routes)
            except OSError as exc:
                print(f"Could not store the mirror indexes for the next start: {exc}", flush=True)
            try:
                nginx.configure(routes)
            except OSError as exc:
                print(f"Could not configure nginx: {exc}", flush=True)
                return
            nginx.reload()
            self.routes = routes
            self.served = frozenset(nginx.served(routes))
            others = len(routes) - len(self.served)
            if others:
                print(
                    f"nginx does not cache the pages of {others} mirror indexes, as their names are too long",
                    flush=True,
                )


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    xom = registry["xom"]
    routes = xom.devpi_routes = Routes(xom)
    routes.update()
    if xom.is_replica():
        replica.follow(xom, routes.update)

    def tween(request: Any) -> Any:
        response = handler(request)
        # The paths of users and indexes have at most two parts.
        is_setting = request.method in ("PUT", "PATCH", "DELETE") and request.path_info.strip("/").count("/") <= 1
        if is_setting and response.status_code < 400:
            routes.update()
        return response

    return tween
