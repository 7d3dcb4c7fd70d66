# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Poll with a deadline and growing delays.

Private to the collection. The clock and the sleep function are arguments, so that a test of an hour takes no time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """The time limits and delays of a poll, in seconds.

    ``timeout`` limits the whole poll, ``request_timeout`` a single attempt. The delay between two attempts starts at
    ``delay`` and grows by half each time up to ``max_delay``. A definitive failure ends the poll early if it persists for
    ``confirm_failure`` seconds: a server that has just started may report "no such index" and mean "not yet".
    """

    timeout: float
    request_timeout: float = 10.0
    delay: float = 0.2
    max_delay: float = 5.0
    confirm_failure: float = 5.0


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The last ``result`` of a poll, the number of ``attempts`` and the ``elapsed`` seconds."""

    result: T
    attempts: int
    elapsed: float


def _never(_result: object) -> bool:
    return False


def poll(
    probe: Callable[[float], T],
    is_done: Callable[[T], bool],
    backoff: Backoff,
    is_definitive: Callable[[T], bool] = _never,
    is_inconclusive: Callable[[T], bool] = _never,
    on_result: Callable[[float, T], None] | None = None,
    has_progressed: Callable[[T], bool] = _never,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome[T]:
    """Call ``probe`` until its result is done, remains a definitive failure, or the time is up.

    ``probe`` gets the seconds that it may take: the limit of one attempt, at most the time that is left. It is called at
    least once, also with a timeout of zero. If the deadline cut the last attempt short and its result is inconclusive, the
    previous result counts. ``on_result`` is called with the seconds since the start and each result. After a result that has
    progressed, the timeout starts anew.
    """
    start = clock()
    deadline = start + backoff.timeout
    delay = backoff.delay
    failed_since: float | None = None
    attempts = 0
    while True:
        attempts += 1
        left = deadline - clock()
        limit = min(backoff.request_timeout, left) if left > 0 else backoff.request_timeout
        latest = probe(limit)
        now = clock()
        if on_result is not None:
            on_result(now - start, latest)
        if attempts == 1 or limit == backoff.request_timeout or not is_inconclusive(latest):
            result = latest
        if has_progressed(latest):
            deadline = now + backoff.timeout
        if is_done(result) or now >= deadline:
            break
        if not is_definitive(result):
            failed_since = None
        elif failed_since is None:
            failed_since = now
        elif now - failed_since >= backoff.confirm_failure:
            break
        sleep(min(delay, deadline - now))
        # A sleep that ends at the deadline leaves no time for an attempt that could succeed.
        if clock() >= deadline:
            break
        delay = min(delay * 1.5, backoff.max_delay)
    return Outcome(result, attempts, clock() - start)


def within(seconds: float, function: Callable[[], T], default: T) -> T:
    """Return what ``function`` returns, or ``default`` if it takes longer than ``seconds``.

    The timeout of a socket limits neither a name lookup nor a server that sends a byte now and then. This does. A late call
    continues in a daemon thread, which ends with the process. An exception of ``function`` is raised here.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as exc:  # noqa: BLE001 - raised below, in the calling thread
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    return results[0] if results else default
