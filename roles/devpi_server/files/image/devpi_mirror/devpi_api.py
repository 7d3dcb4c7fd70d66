# SPDX-License-Identifier: GPL-3.0-or-later
"""Send requests to the container's devpi, on a Unix socket that only its own user can open."""

from __future__ import annotations

import json
import socket
from typing import Any

from .config import SOCKET


class UnavailableError(OSError):
    """devpi does not respond, for example while it starts."""


class StatusError(OSError):
    """devpi responds with an error. ``status`` is the HTTP status."""

    def __init__(self, method: str, path: str, status: int) -> None:
        super().__init__(f"devpi responded with status {status} to {method} {path}")
        self.status = status


def send(method: str, path: str, body: Any = None, auth: str = "", limit: float = 60) -> Any:
    """Return the JSON of a response, or None if it has another type.

    ``body`` is sent as JSON, ``auth`` as ``X-Devpi-Auth``. ``limit`` is the timeout for each part of the response, in seconds.
    Raises UnavailableError, StatusError and ValueError.
    """
    # Imported here, as it takes a third of the memory of the maintenance process, which seldom needs it.
    from http.client import HTTPConnection, HTTPException

    headers = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        **({"X-Devpi-Auth": auth} if auth else {}),
    }
    connection = HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as connection.sock:
        connection.sock.settimeout(limit)
        try:
            connection.sock.connect(SOCKET)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = b""
            while chunk := response.read(65536):
                content += chunk if response.headers.get_content_type() == "application/json" else b""
        except (OSError, HTTPException) as exc:
            raise UnavailableError(str(exc)) from exc
    if response.status >= 400:
        raise StatusError(method, path, response.status)
    return json.loads(content) if content else None
