# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit how often a client can try wrong passwords."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

# Wrong passwords of a user from one address within this time, in seconds, after which further attempts are refused.
LIMIT = 10
PERIOD = 60.0
# Clients whose attempts are remembered. The oldest are forgotten first.
CLIENTS = 10_000


class Attempts:
    """The failed logins of clients in the last ``period`` seconds."""

    def __init__(self, limit: int = LIMIT, period: float = PERIOD, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._period = period
        self._clock = clock
        self._failures: dict[Hashable, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, client: Hashable) -> float:
        """Return the seconds until a client may try again, 0 if it may do so now."""
        with self._lock:
            failures = self._failures.get(client)
            if failures is None or len(failures) < self._limit:
                return 0.0
            return max(0.0, failures[0] + self._period - self._clock())

    def add(self, client: Hashable) -> None:
        """Record a failed login."""
        with self._lock:
            failures = self._failures.pop(client, deque(maxlen=self._limit))
            failures.append(self._clock())
            self._failures[client] = failures
            if len(self._failures) > CLIENTS:
                del self._failures[next(iter(self._failures))]

    def forget(self, client: Hashable) -> None:
        """Forget the failed logins of a client that has logged in."""
        with self._lock:
            self._failures.pop(client, None)
