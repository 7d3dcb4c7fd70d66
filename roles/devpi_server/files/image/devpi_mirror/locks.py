# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes of the container, on files. The lock of a process that was killed is released."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock. Raises BlockingIOError if another process holds it, unless this one waits."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
