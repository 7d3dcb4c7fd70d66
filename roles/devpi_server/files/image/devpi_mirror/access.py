# SPDX-License-Identifier: GPL-3.0-or-later
"""Reject unauthorized changes before devpi handles them: devpi itself checks while it holds its write lock, or even later."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from devpi_server.views import is_mutating_http_method
from pyramid.httpexceptions import (  # type: ignore[import-untyped]
    HTTPForbidden,
    HTTPRequestEntityTooLarge,
    HTTPServiceUnavailable,
    HTTPTooManyRequests,
    HTTPUnauthorized,
)

from .identities import Target, has_credentials, identities_of, is_login
from .reading import CHALLENGE

# Bytes of a request without a user: a login, or the settings of a user. devpi reads it into memory.
BODY_LIMIT = 65_536


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


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    identities = identities_of(registry)

    def get_user(request: Any) -> Any:
        """Return the name of the authenticated user, or None.

        Raises HTTPForbidden for a token that is not valid, and for a change HTTPTooManyRequests after too many wrong passwords,
        and HTTPServiceUnavailable if the LDAP server can't verify the password.
        """
        if not has_credentials(request):
            return None
        with registry["xom"].keyfs.read_transaction():
            try:
                # The view checks whether a token is valid for this index and project.
                identity = identities.find(request, Target())
            except (HTTPTooManyRequests, HTTPServiceUnavailable) as exc:
                if is_change(request):
                    raise
                # All users can read what has no restriction.
                identities.ignore_credentials(request, exc)
                return None
        return None if identity is None else identity.username

    def tween(request: Any) -> Any:
        try:
            # devpi replaces the credentials of a login, for which Pyramid must not have cached another user.
            user = None if is_login(request) else get_user(request)
        except (HTTPForbidden, HTTPServiceUnavailable, HTTPTooManyRequests) as exc:
            return exc
        if needs_user(request):
            if user is None:
                return HTTPUnauthorized("This request requires the credentials of a user.", headers=CHALLENGE)
        elif is_large(request) and not is_test_result(request):
            return HTTPRequestEntityTooLarge(f"The body of this request is limited to {BODY_LIMIT} bytes.")
        return identities.log_in(request, handler) if is_login(request) else handler(request)

    return tween
