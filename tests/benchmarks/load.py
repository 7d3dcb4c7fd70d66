# SPDX-License-Identifier: GPL-3.0-or-later
"""Send many requests with wrk."""

from __future__ import annotations

import re
from typing import NamedTuple

import servers

TESTER = "devpi-mirror-test-bench:bookworm"
SECONDS = 2
UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


class Received(NamedTuple):
    """What clients have received: the number of complete responses, and all bytes."""

    responses: int
    size: float


def send(url: str, form: str, clients: int, *headers: str) -> Received:
    """Request a URL over and over with this number of connections for ``SECONDS``.

    Raises RuntimeError if one of them is an error. Certificates are not verified.
    """
    sent = [f"Accept: {servers.FORMS[form]}", "Accept-Encoding: gzip", "User-Agent: pip/26", *headers]
    output = servers.docker(
        "run", "--rm", "--network", "host", TESTER, "wrk", "-t", "1", "-c", str(clients), "-d", f"{SECONDS}s",
        "--timeout", "30s", *(argument for header in sent for argument in ("-H", header)), url,
    )  # fmt: skip
    found = re.search(r"(\d+) requests in [^,]+, ([0-9.]+)([KMG]?B) read", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{url}: {output}")
    return Received(int(found[1]), float(found[2]) * UNITS[found[3]])
