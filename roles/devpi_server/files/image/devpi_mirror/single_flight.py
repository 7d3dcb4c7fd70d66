# SPDX-License-Identifier: GPL-3.0-or-later
"""Coalesce concurrent tasks: threads that need the same result at the same time share one execution ("single flight")."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs tasks by key. All callers get the result of the task that is running for their key."""

    def __init__(self, threads: int, name: str) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        # Reentrant, as the callback runs at once if the task has ended before it is added.
        self.lock = threading.RLock()
        self.running: dict[Hashable, Future[T]] = {}

    def start(self, key: Hashable, task: Callable[[], T]) -> Future[T]:
        """Return the future of the task that is running for this key. Start this task if none is running."""
        with self.lock:
            future = self.running.get(key)
            if future is None:
                future = self.running[key] = self.pool.submit(task)
                future.add_done_callback(lambda _done: self.finish(key))
            return future

    def finish(self, key: Hashable) -> None:
        with self.lock:
            self.running.pop(key, None)

    def run(self, key: Hashable, task: Callable[[], T], limit: float) -> T:
        """Return the task's result. Raises what it raises, and TimeoutError after ``limit`` seconds, but does not stop it."""
        return self.start(key, task).result(limit)
