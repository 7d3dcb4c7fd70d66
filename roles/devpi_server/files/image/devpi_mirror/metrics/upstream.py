# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the requests to upstreams, in devpi's process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from .. import config

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

# Records the result of a request and its seconds.
Record = Callable[[str, float], None]
# Seconds, up to READ_TIMEOUT.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
# Indexes that are counted separately, so that the number of values is limited.
INDEXES = 50
counted: set[str] = set()


def ignore(result: str, seconds: float) -> None:
    """Record nothing."""


@cache
def instruments() -> tuple[Counter, Histogram]:
    # The library stores the values in this folder if the variable is set before its import. Imported here, as it takes memory.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(config.METRICS_VALUES)
    from prometheus_client import Counter, Histogram

    return (
        Counter(
            "devpi_mirror_upstream_requests",
            "Requests to upstreams, by the class of the response's status, or no_response.",
            ["index", "upstream", "result"],
            registry=None,
        ),
        Histogram(
            "devpi_mirror_upstream_response_seconds",
            "Seconds until an upstream begins to respond, or the request fails.",
            ["index", "upstream"],
            registry=None,
            buckets=BUCKETS,
        ),
    )


def recorder(index: str, upstream: str) -> Record:
    """Return what records the requests to the upstream ``main`` or ``fallback`` of an index."""
    if os.environ.get("DEVPI_MIRROR_METRICS") != "true":
        return ignore
    if len(counted) < INDEXES:
        counted.add(index)
    name = index if index in counted else "other"
    requests, durations = instruments()

    def record(result: str, seconds: float) -> None:
        # An uncounted request is better than a failed one.
        with suppress(OSError):
            requests.labels(name, upstream, result).inc()
            durations.labels(name, upstream).observe(seconds)

    return record
