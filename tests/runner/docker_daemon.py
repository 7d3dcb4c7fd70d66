# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker daemon of the machine that runs the tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STOP_SECONDS = 60


def docker_daemon_pid() -> int | None:
    """Return the process ID of this machine's Docker daemon, None if it does not run."""
    try:
        pid = int(Path("/run/docker.pid").read_text())
        # After a power cut, the file can contain the ID of another program's process.
        return pid if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd" else None
    except (OSError, ValueError):
        return None


def stop_docker_daemon() -> None:
    """Stop the daemon and wait until it has ended. Raises TimeoutError if it does not end."""
    pid = docker_daemon_pid()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while docker_daemon_pid() == pid:
        if time.monotonic() > deadline:
            raise TimeoutError(f"dockerd (process {pid}) does not stop")
        time.sleep(0.1)


@contextmanager
def docker_daemon_left_as_found(keep: bool = False) -> Iterator[None]:
    """Afterwards stop a daemon that did not run before, unless ``keep`` is true."""
    was_running = docker_daemon_pid() is not None
    try:
        yield
    finally:
        if not was_running and not keep:
            stop_docker_daemon()
