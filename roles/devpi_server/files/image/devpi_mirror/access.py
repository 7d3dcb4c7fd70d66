# SPDX-License-Identifier: GPL-3.0-or-later
"""Reject unauthorized changes before devpi handles them: devpi itself checks while it holds its write lock, or even later."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from devpi_server.view_auth import CredentialsIdentity
from devpi_server.views import is_mutating_http_method
from pyramid.httpexceptions import (  # type: ignore[import-untyped]
    HTTPForbidden,
    HTTPRequestEntityTooLarge,
    HTTPUnauthorized,
)
from pyramid.interfaces import ISecurityPolicy  # type: ignore[import-untyped]

# Bytes of a request without a user: a login, or the settings of a user. devpi reads it into memory.
BODY_LIMIT = 65_536
# Passwords that are verified at a time, each of which takes 64 MB of memory.
PASSWORDS = 2


def is_change(request: Any) -> bool:
    return bool(is_mutating_http_method(request.method))  # type: ignore[no-untyped-call]


def is_test_result(request: Any) -> bool:
    return bool(request.method == "POST" and "/+f/" in request.path_info)


def needs_user(request: Any) -> bool:
    """Return whether only a user may send a request: it changes an index, or makes devpi send requests to other hosts."""
    if is_test_result(request) and os.environ.get("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS"):
        return False
    return is_change(request) and request.path_info.strip("/").count("/") > 0


def is_large(request: Any) -> bool:
    return is_change(request) and (request.content_length or 0) > BODY_LIMIT


def has_credentials(request: Any) -> bool:
    return "Authorization" in request.headers or "X-Devpi-Auth" in request.headers


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    comparisons = threading.BoundedSemaphore(PASSWORDS)

    def get_user(request: Any) -> Any:
        """Return the name of the authenticated user, or None. Pyramid caches that of a password for the rest of the request.

        Raises HTTPForbidden for a token that is not valid, which here is no response yet.
        """
        if not has_credentials(request):
            return None
        with comparisons, registry["xom"].keyfs.read_transaction():
            identity = request.identity
        if identity is None:
            return None
        if not isinstance(identity, CredentialsIdentity):
            # Pyramid has not found the route yet. Without it, a token is valid for all indexes and projects.
            registry.getUtility(ISecurityPolicy).identity_cache.clear(request)
        return identity.username

    def tween(request: Any) -> Any:
        is_login = request.method == "POST" and request.path_info.rstrip("/").endswith("/+login")
        # devpi replaces the credentials of a login, for which Pyramid must not have cached another user.
        try:
            user = get_user(request) if needs_user(request) or not is_login else None
        except HTTPForbidden as exc:
            return exc
        if needs_user(request):
            if user is None:
                headers = [("WWW-Authenticate", 'Basic realm="pypi"')]
                return HTTPUnauthorized("This request requires the credentials of a user.", headers=headers)
        elif is_large(request) and not is_test_result(request):
            return HTTPRequestEntityTooLarge(f"The body of this request is limited to {BODY_LIMIT} bytes.")
        with comparisons if is_login else nullcontext():
            return handler(request)

    return tween
