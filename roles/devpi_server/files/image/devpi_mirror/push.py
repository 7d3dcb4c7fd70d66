# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a release of a mirror index before devpi pushes it to another index: devpi can only push files that it has stored.

This happens before devpi opens its write transaction, because each download is stored in a transaction of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from . import compat, config, pages
from .access import BODY_LIMIT
from .downloads import DiskFullError
from .mirror import Mirror
from .plugin import Service
from .responses import error_response
from .upstream import UpstreamError

INDEX = re.compile(r"/(?P<index>[^/+]+/[^/+]+)/?")


class Release(NamedTuple):
    """A version of a project, with the name that the client uses, and the index that has it."""

    source: str
    project: str
    version: str


def pushed_release(request: Any) -> Release | None:
    """Return the release that a request pushes, or None if it is no valid push: devpi responds to invalid ones."""
    found = INDEX.fullmatch(request.path_info)
    # devpi-client uses the method PUSH.
    if not found or request.method not in ("POST", "PUSH") or not 0 < (request.content_length or 0) <= BODY_LIMIT:
        return None
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    project, version = body.get("name"), body.get("version")
    if not isinstance(project, str) or not isinstance(version, str):
        return None
    return Release(found["index"], project, version)


def download_release(service: Service, release: Release) -> None:
    """Download the files of a release that devpi does not have. Raises UpstreamError and DiskFullError."""
    keyfs = service.xom.keyfs
    with keyfs.read_transaction():
        mirror = service.mirror_of(release.source)
    if mirror is None:
        return
    project = canonicalize_name(release.project)
    served = mirror.get(project)
    with keyfs.read_transaction():
        paths = missing_files(service, mirror, release, served.page())
    # One at a time, so that other clients' downloads do not wait for those of a large release.
    for path in paths:
        link = mirror.pages.find(project, path, config.max_stale())
        if link:
            # A file that is stored without an entry is downloaded again.
            service.downloads.start(service.download_job(mirror, path, project, link)).await_end()


def missing_files(service: Service, mirror: Mirror, release: Release, page: pages.Page) -> list[str]:
    """Return the paths of the files of a release that devpi does not have. Call it in a transaction."""
    stage = service.xom.model.getstage(mirror.name)
    if stage is None:
        return []
    links = compat.simple_links(stage, release.project, page)
    paths = [link.path.removeprefix(f"{mirror.name}/") for link in links if link.version == release.version]
    return [
        path for path in dict.fromkeys(paths) if not (mirror.stored(path).is_file() and service.has_entry(mirror, path))
    ]


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    xom = registry["xom"]

    def tween(request: Any) -> Any:
        # A replica forwards the request to its primary.
        release = None if xom.is_replica() else pushed_release(request)
        if release is not None:
            try:
                download_release(xom.devpi_mirror, release)
            except (UpstreamError, DiskFullError) as exc:
                response = error_response(exc)
                # devpi-client prints the message of a JSON object.
                response.content_type = "application/json"
                reason = str(exc).rstrip(".")
                message = f"Could not push {release.project} {release.version}: {reason}. Nothing was pushed."
                response.json_body = {"message": message}
                return response
        return handler(request)

    return tween
