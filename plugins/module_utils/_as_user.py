# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run functions with the privileges of a user.

Private to the collection. Root must not follow a symbolic link that a user controls. With the user's privileges, such a link
leads only to what the user can access anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import signal
import time
from typing import Any, Callable, NamedTuple


class OperationError(Exception):
    """An operation failed. The message has the reason."""


def reason(exc: Exception) -> str:
    """Return why an operation failed, with the name of the file if the system refused access to one."""
    if isinstance(exc, OSError) and exc.filename:
        return f"{exc.filename}: {exc.strerror}"
    return str(exc) or type(exc).__name__


def run_as_all(
    users: list[pwd.struct_passwd],
    function: Callable[[pwd.struct_passwd], Any],
    timeout: float = 60.0,
    concurrency: int = 16,
) -> list[Any]:
    """Call ``function`` for each user with that user's privileges, and return the results in the order of the users.

    It runs in a process of its own and must return a value that JSON can represent. The result is an OperationError if it
    raises an exception, if it takes longer than ``timeout`` seconds (as in a home directory on a network file system that does
    not respond), or if this process may not become that user. At most ``concurrency`` processes run at a time.
    """
    results: list[Any] = [None] * len(users)
    waiting = list(enumerate(users))
    running: dict[int, _Child] = {}
    while waiting or running:
        while waiting and len(running) < concurrency:
            position, user = waiting.pop(0)
            if os.geteuid() in (0, user.pw_uid):
                child = _start(position, user, function, time.monotonic() + timeout, list(running))
                running[child.reader] = child
            else:
                results[position] = OperationError(
                    f"root privileges are needed to access the files of {user.pw_name}: set become to true"
                )
        if not running:
            continue
        deadline = min(child.deadline for child in running.values())
        for reader in select.select(list(running), [], [], max(0.0, deadline - time.monotonic()))[0]:
            chunk = os.read(reader, 1 << 16)
            running[reader].data.append(chunk)
            if not chunk:
                child = running.pop(reader)
                results[child.position] = _result(b"".join(child.data))
                _end(child)
        for child in [child for child in running.values() if child.deadline <= time.monotonic()]:
            del running[child.reader]
            results[child.position] = OperationError(f"timed out after {timeout:g} s")
            _end(child)
    return results


class _Child(NamedTuple):
    position: int
    pid: int
    reader: int
    deadline: float
    data: list[bytes]


def _start(
    position: int,
    user: pwd.struct_passwd,
    function: Callable[[pwd.struct_passwd], Any],
    deadline: float,
    other_readers: list[int],
) -> _Child:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for descriptor in [reader, *other_readers]:
            os.close(descriptor)
        _run(user, function, writer)
    os.close(writer)
    return _Child(position, pid, reader, deadline, [])


def _run(user: pwd.struct_passwd, function: Callable[[pwd.struct_passwd], Any], writer: int) -> None:
    try:
        if os.geteuid() == 0:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        os.umask(0o022)
        os.chdir("/")
        message = {"result": function(user)}
    except Exception as exc:  # noqa: BLE001 - the parent process reports it
        message = {"error": reason(exc)}
    try:
        data = json.dumps(message).encode("ascii")
        while data:
            data = data[os.write(writer, data) :]
    finally:
        # Not sys.exit, which would run the exit handlers of the parent process a second time.
        os._exit(0)


def _result(data: bytes) -> Any:
    if not data:
        return OperationError("the worker exited without a result")
    message = json.loads(data.decode("ascii"))
    return OperationError(message["error"]) if "error" in message else message["result"]


def _end(child: _Child) -> None:
    os.close(child.reader)
    with contextlib.suppress(OSError):
        os.kill(child.pid, signal.SIGKILL)
    # A process that waits for an unavailable file system can't be killed. It must not block this process.
    for _attempt in range(100):
        if os.waitpid(child.pid, os.WNOHANG)[0]:
            return
        time.sleep(0.01)
