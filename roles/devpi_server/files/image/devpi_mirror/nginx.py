# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure nginx for the mirror indexes that it serves: their names, IDs and whether they have a policy.

devpi knows these indexes, see routes.py. They are stored, as nginx starts before devpi.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from .config import ETC, INDEX, NGINX_CONF, NGINX_PID, ROUTES

# Names of indexes that nginx serves. devpi itself serves the pages of others.
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
# Bytes of the pattern for these names. nginx refuses a configuration in which a parameter or a comment has more than 4096.
PATTERN_LIMIT = 3500
# One for each processor. Each counts towards the limit of processes, devpi_server_pids, and has about 2 MB.
MAX_WORKERS = 8
# A pattern that matches no name.
NONE = "(?!)"


class Route(NamedTuple):
    """An index that nginx serves. ``id`` is part of the keys of its cached responses, and changes with its settings."""

    id: str
    has_policy: bool


# Before devpi has started for the first time, nothing is cached, and nginx asks devpi before it sends a file.
INITIAL = {INDEX: Route("new", has_policy=True)}


def stored_routes() -> dict[str, Route]:
    """Return the indexes that nginx served last."""
    try:
        return {name: Route(*route) for name, route in json.loads(ROUTES.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return INITIAL


def store_routes(routes: Mapping[str, Route]) -> None:
    """Store the indexes that nginx serves. Raises OSError, and then none are stored: outdated ones could ignore a policy."""
    ROUTES.unlink(missing_ok=True)
    fresh = ROUTES.with_suffix(".new")
    fresh.write_text(json.dumps(routes))
    fresh.replace(ROUTES)


def served(routes: Mapping[str, Route]) -> dict[str, Route]:
    """Return the indexes that nginx serves: as many as its configuration can have, the public one first."""
    found: dict[str, Route] = {}
    size = 0
    for name in sorted(routes, key=lambda name: (name != INDEX, name)):
        size += len(re.escape(name)) + 1
        if size > PATTERN_LIMIT:
            break
        if NAME.fullmatch(name):
            found[name] = routes[name]
    return found


def rendered(template: str, routes: Mapping[str, Route]) -> str:
    """Return nginx's configuration. The template has the number @WORKERS@, the patterns @MIRRORS@ and @POLICIES@,
    and the map's lines @IDS@."""
    found = served(routes)
    values = {
        "WORKERS": str(min(max(os.cpu_count() or 1, 2), MAX_WORKERS)),
        "MIRRORS": "|".join(map(re.escape, found)) or NONE,
        "POLICIES": "|".join(re.escape(name) for name, route in found.items() if route.has_policy) or NONE,
        "IDS": "\n        ".join(f'"{name}" {route.id};' for name, route in found.items()),
    }
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], template)


def configure(routes: Mapping[str, Route]) -> None:
    """Write nginx's configuration. Raises OSError."""
    fresh = NGINX_CONF.with_suffix(".new")
    fresh.write_text(rendered((ETC / "nginx.conf").read_text(), routes))
    fresh.replace(NGINX_CONF)


def reload() -> None:
    """Make nginx read its configuration, and close the files that it keeps open. It may not run yet."""
    with suppress(OSError, ValueError):
        os.kill(int(NGINX_PID.read_text()), signal.SIGHUP)
