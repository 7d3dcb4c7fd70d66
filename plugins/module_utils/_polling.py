# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deadline loop: try, judge, wait a little longer each time, and stop in time.

Private to the collection. The clock and the sleep are arguments, so that a test of an hour takes no time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable, Generic, List, Optional, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How patient a wait is. All values are seconds.

    ``timeout`` bounds the whole wait, ``request_timeout`` a single try. The pause between two tries starts at
    ``delay`` and grows by half each time up to ``max_delay``. ``settle`` is how long the same definitive
    answer must be seen before it is believed: a server that has just started may say "no such index" and mean "not yet".
    """

    timeout: float
    request_timeout: float = 10.0
    delay: float = 0.2
    max_delay: float = 5.0
    settle: float = 5.0


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The last thing a wait saw: the ``result``, the number of ``attempts`` and the ``elapsed`` seconds."""

    result: T
    attempts: int
    elapsed: float


def poll(
    probe: Callable[[float], T],
    done: Callable[[T], bool],
    hopeless: Callable[[T], bool],
    unfinished: Callable[[T], bool],
    pace: Pace,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    seen: Optional[Callable[[float, T], None]] = None,
) -> Outcome[T]:
    """Call ``probe`` until ``done`` accepts its result, it stays ``hopeless``, or the time is up.

    A last try that the deadline cut short may come out ``unfinished``, which tells nothing: then the one before counts.

    ``probe`` gets the seconds it may take: the limit of one try, cut to what is left. It is called at least once,
    also with a timeout of zero. ``seen`` is told of each result with the seconds since the start.
    """
    start = clock()
    deadline = start + pace.timeout
    pause = pace.delay
    hopeless_since: Optional[float] = None
    attempts = 0
    while True:
        attempts += 1
        left = deadline - clock()
        limit = min(pace.request_timeout, left) if left > 0 else pace.request_timeout
        latest = probe(limit)
        now = clock()
        if seen is not None:
            seen(now - start, latest)
        if attempts == 1 or limit == pace.request_timeout or not unfinished(latest):
            result = latest
        if done(result):
            break
        if not hopeless(result):
            hopeless_since = None
        elif hopeless_since is None:
            hopeless_since = now
        elif now - hopeless_since >= pace.settle:
            break
        if now >= deadline:
            break
        sleep(min(pause, deadline - now))
        # A sleep that ends at the deadline leaves no time for a try that could succeed.
        if clock() >= deadline:
            break
        pause = min(pause * 1.5, pace.max_delay)
    return Outcome(result, attempts, clock() - start)


def within(seconds: float, work: Callable[[], T], otherwise: T) -> T:
    """Return what ``work`` returns, or ``otherwise`` if that takes longer than ``seconds``.

    A socket's timeout bounds neither the lookup of a name nor a server that sends a byte now and then. This does. Late
    work goes on in a daemon thread, which ends with the process. An exception of ``work`` is raised here.
    """
    results: List[T] = []
    errors: List[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return results[0] if results else otherwise
