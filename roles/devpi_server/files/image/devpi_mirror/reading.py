# SPDX-License-Identifier: GPL-3.0-or-later
"""Restrict who can read a private index (its setting acl_read): pages, files, lists of projects and settings.

devpi itself checks this permission for files alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from packaging.utils import canonicalize_name
from pyramid.httpexceptions import (  # type: ignore[import-untyped]
    HTTPException,
    HTTPForbidden,
    HTTPUnauthorized,
)

from . import compat
from .identities import Target, identities_of

ACL = "acl_read"
PATH = re.compile(r"/+(?P<user>[^/+][^/]*)/+(?P<index>[^/+][^/]*)(?:/+(?P<rest>.*))?", re.DOTALL)
CHALLENGE = [("WWW-Authenticate", 'Basic realm="pypi"')]


def principals(ixconfig: Mapping[str, Any]) -> list[str] | None:
    """Return the users who can read an index, None for all."""
    return ixconfig.get(ACL) or None


def project_of(xom: Any, index: str, rest: str) -> str | None:
    """Return the project of a path below an index, None if the path is not about one."""
    first, *more = rest.split("/")
    if first == "+simple" and more:
        return canonicalize_name(more[0])
    if first in ("+f", "+e"):
        entry = xom.filestore.get_file_entry(f"{index}/{rest.removesuffix('.metadata')}")
        return None if entry is None else entry.project
    return None if first.startswith("+") or not first else canonicalize_name(first)


def refusal(xom: Any, registry: Any, request: Any) -> Any:
    """Return the response to a request that reads an index without the permission, else None. Requires a transaction."""
    # devpi itself checks the permissions of all changes. Users who upload need not be readers.
    found = PATH.fullmatch(request.path_info) if request.method in ("GET", "HEAD") else None
    if not found:
        return None
    stage = xom.model.getstage(found["user"], found["index"])
    if stage is None or compat.is_mirror(stage):
        return None
    # An index shows the packages of its bases too.
    restricted = [base for base in stage.sro() if principals(base.ixconfig)]
    if not restricted:
        return None
    target = Target(stage.username, stage.index, project_of(xom, stage.name, found["rest"] or ""))
    identities = identities_of(registry)
    try:
        identity = identities.find(request, target)
    except HTTPException as exc:
        return exc
    if identity is None:
        return HTTPUnauthorized(f"Reading {stage.name} requires the credentials of a user.", headers=CHALLENGE)
    denied = [base.name for base in restricted if not identities.permits(request, identity, base, "pkg_read")]
    if denied:
        return HTTPForbidden(f"The credentials of {identity.username} do not permit reading {denied[0]}.")
    return None
