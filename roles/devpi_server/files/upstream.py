"""The URL of the mirror index's upstream, and the credentials in it.

devpi reports the URL to all clients and writes it to its log, so the credentials are taken out of it. They are sent with
requests to the upstream's origin, and to no other one that a page links or redirects to.
"""

from __future__ import annotations

import base64
from typing import Mapping, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


class Upstream(NamedTuple):
    """A URL without credentials, and the ``Authorization`` header that they make, which is empty without any."""

    url: str
    authorization: str

    def is_at(self, url: str) -> bool:
        """Return whether a URL has the upstream's origin."""
        return origin(urlsplit(url)) == origin(urlsplit(self.url))


def origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)


def read_upstream(environ: Mapping[str, str]) -> Upstream:
    """Return the upstream that the environment names, with an empty URL if it is devpi's default."""
    parts = urlsplit(environ.get("DEVPI_MIRROR_UPSTREAM_URL", ""))
    # A password can contain an @ that is not encoded. A host name can't.
    credentials, _at, host = parts.netloc.rpartition("@")
    user, _colon, password = credentials.partition(":")
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")
    return Upstream(parts._replace(netloc=host).geturl(), f"Basic {basic}" if credentials else "")
