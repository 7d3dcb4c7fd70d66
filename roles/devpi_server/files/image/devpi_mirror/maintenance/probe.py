# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether another server responds, with the proxy and the certificates that devpi uses."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..certificates import ssl_context


class Probed(NamedTuple):
    """The error if there is no response, and the header Date of the response."""

    error: str
    date: str = ""


def masked(url: str) -> str:
    """Return a URL without credentials."""
    return re.sub(r"//[^/\s]*@", "//***@", url)


def request(url: str, method: str) -> Probed:
    """Send a request. A server that refuses it responds, too."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import HTTPSHandler, Request, build_opener

    try:
        with build_opener(HTTPSHandler(context=ssl_context())).open(
            Request(url, method=method), timeout=10
        ) as response:
            return Probed("", response.headers["Date"] or "")
    except HTTPError as exc:
        # It does not have this page, or requires the credentials that devpi has: it is reachable.
        error = f"it responds with status {exc.code}" if exc.code >= 500 else ""
        return Probed(error, exc.headers["Date"] or "")
    except (OSError, ValueError, HTTPException) as exc:
        return Probed(str(getattr(exc, "reason", exc)) or type(exc).__name__)
