"""One execution of a task for all threads that want its result at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Runs tasks by key: who asks for one that is running gets the result of that one."""

    def __init__(self, threads: int, name: str) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        # Reentrant, as a task can have ended when its callback is added.
        self.lock = threading.RLock()
        self.running: dict[Hashable, Future[T]] = {}

    def start(self, key: Hashable, task: Callable[[], T]) -> Future[T]:
        """Return the future of the task that runs for this key, which is this task if none does."""
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
        """Return the task's result. Raises what it raises, and TimeoutError after ``limit`` seconds, while it goes on."""
        return self.start(key, task).result(limit)
