# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the metrics of a mirror on the test host."""

from __future__ import annotations

import re

from harness import on_host


def get(port: int, path: str) -> str:
    """Return the body of a response on the host's loopback interface, or the status of an error."""
    script = (
        "import urllib.request as r, urllib.error as e\n"
        f"try: print(r.build_opener().open('http://127.0.0.1:{port}{path}').read().decode('utf-8', 'replace'))\n"
        "except e.HTTPError as exc: print(exc.code)"
    )
    return on_host(f'python3 -c "{script}"')


def metrics(port: int = 3199) -> dict[str, float]:
    """Return the values, by names with labels."""
    values = {}
    for name, value in re.findall(r"^(devpi_mirror_\S+) (\S+)$", get(port, "/metrics"), re.MULTILINE):
        values[name] = float(value)
    return values
