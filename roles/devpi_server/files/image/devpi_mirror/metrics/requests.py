# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the requests of clients, from the log that nginx writes for this."""

from __future__ import annotations

import re
from collections import Counter as Counts
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter

from ..config import METRICS_LOG

# X-Cached, the status and the bytes of a response.
LINE = re.compile(rb"(\S+) ([1-5])\d\d (\d+)")
# What one call reads at once, and after how many bytes the log is emptied.
CHUNK = 1_000_000
# Responses that are never cached have no X-Cached. With EXPIRED and its like, a client waited for devpi too.
RESULTS = {b"HIT": "hit", b"STALE": "stale", b"-": "none"}


class Requests:
    """The requests since the start of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "devpi_mirror_requests",
            "Responses to clients, by cache result (hit, stale, miss, or none if never cached) and class of the status.",
            ["cache", "status"],
            registry=registry,
        )
        self.bytes = Counter(
            "devpi_mirror_response_bytes",
            "Bytes of responses to clients, with headers.",
            ["cache"],
            registry=registry,
        )
        # Rates and alerts need values before the first request.
        for cache in ("hit", "stale", "miss", "none"):
            self.requests.labels(cache, "2xx")
            self.bytes.labels(cache)
        self.position = 0

    def clear(self) -> None:
        """Empty the log. nginx appends, so it continues at the new end."""
        with suppress(OSError), METRICS_LOG.open("r+b") as stream:
            stream.truncate(0)
        self.position = 0

    def count(self) -> None:
        """Count the requests since the last call."""
        with suppress(FileNotFoundError), METRICS_LOG.open("rb") as stream:
            stream.seek(self.position)
            while lines := stream.readlines(CHUNK):
                # The rest of an incomplete line is read by the next call.
                complete = [line for line in lines if line.endswith(b"\n")]
                self.position += sum(map(len, complete))
                self.add(complete)
                if len(complete) < len(lines):
                    return
            if self.position > CHUNK:
                self.clear()

    def add(self, lines: list[bytes]) -> None:
        counts: Counts[tuple[str, str]] = Counts()
        sizes: Counts[str] = Counts()
        for line in lines:
            if found := LINE.match(line):
                cache = RESULTS.get(found[1], "miss")
                counts[cache, f"{found[2].decode()}xx"] += 1
                sizes[cache] += int(found[3])
        for (cache, status), number in counts.items():
            self.requests.labels(cache, status).inc(number)
        for cache, size in sizes.items():
            self.bytes.labels(cache).inc(size)
