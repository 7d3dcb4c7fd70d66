# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials in the URL of an upstream.

devpi shows the URL to all clients and writes it to its log, so the credentials are removed from it. They are sent to the
upstream's origin only, and not to other origins that a page links or redirects to.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


class Credentials(NamedTuple):
    """The ``Authorization`` header for the origin of a URL, or an empty text if there are no credentials."""

    url: str
    authorization: str

    def belong_to(self, url: str) -> bool:
        """Return whether a URL has the origin of these credentials. An invalid one has not."""
        try:
            return origin(urlsplit(url)) == origin(urlsplit(self.url))
        except ValueError:
            return False

    def authenticate(self, request: Any) -> None:
        """Add the credentials to a request to their origin. httpx calls it for each redirect too."""
        if not self.authorization:
            return
        if self.belong_to(str(request.url)):
            request.headers["Authorization"] = self.authorization
        elif request.headers.get("Authorization") == self.authorization:
            # httpx preserves it if a host redirects from http to https.
            del request.headers["Authorization"]


def split_credentials(url: str) -> Credentials:
    """Return a URL without its credentials, and the header that has them."""
    parts = urlsplit(url)
    # A password can contain an unencoded @, a host name can't.
    credentials, _at, host = parts.netloc.rpartition("@")
    user, _colon, password = credentials.partition(":")
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
    return Credentials(parts._replace(netloc=host).geturl(), f"Basic {basic}" if credentials else "")
