# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing something with the rights of a user, and no others.

Private to the collection. What root does inside a home, a symlink of the user's can lead elsewhere; what the user
does, it can only lead where the user could go anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import signal
import time
from typing import Any, Callable, Dict, List, NamedTuple


class Failed(Exception):
    """The work was not done. The message says why."""


def reason(exc: Exception) -> str:
    """Say why something was not done, with the file's name where the system refused it."""
    if isinstance(exc, OSError) and exc.filename:
        return "%s: %s" % (exc.filename, exc.strerror)
    return str(exc) or type(exc).__name__


def run_as_all(
    users: List[pwd.struct_passwd], work: Callable[[pwd.struct_passwd], Any], limit: float = 60.0, at_once: int = 16
) -> List[Any]:
    """Return what ``work`` returns for each user when it is done with that user's rights, in order.

    ``work`` runs in a process of its own and must return what JSON can carry. Where it raises, takes longer than ``limit``
    seconds (a home on a network file system that has gone), or where this process may not become that user, there is a Failed
    in place of what it returns. ``at_once`` of them run side by side.
    """
    answers: List[Any] = [None] * len(users)
    waiting = list(enumerate(users))
    running: Dict[int, _Child] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            place, user = waiting.pop(0)
            if os.geteuid() in (0, user.pw_uid):
                child = _start(place, user, work, time.monotonic() + limit, list(running))
                running[child.reader] = child
            else:
                answers[place] = Failed("only root can write the files of %s: run this with become" % user.pw_name)
        if not running:
            continue
        until = min(child.deadline for child in running.values())
        for reader in select.select(list(running), [], [], max(0.0, until - time.monotonic()))[0]:
            chunk = os.read(reader, 1 << 16)
            running[reader].data.append(chunk)
            if not chunk:
                child = running.pop(reader)
                answers[child.place] = _answer(b"".join(child.data))
                _end(child)
        for child in [child for child in running.values() if child.deadline <= time.monotonic()]:
            del running[child.reader]
            answers[child.place] = Failed("it took longer than %d seconds, and was given up" % limit)
            _end(child)
    return answers


class _Child(NamedTuple):
    place: int
    pid: int
    reader: int
    deadline: float
    data: List[bytes]


def _start(
    place: int, user: pwd.struct_passwd, work: Callable[[pwd.struct_passwd], Any], deadline: float, others: List[int]
) -> _Child:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for descriptor in [reader, *others]:
            os.close(descriptor)
        _run(user, work, writer)
    os.close(writer)
    return _Child(place, pid, reader, deadline, [])


def _run(user: pwd.struct_passwd, work: Callable[[pwd.struct_passwd], Any], writer: int) -> None:
    try:
        if os.geteuid() == 0:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        os.umask(0o022)
        os.chdir("/")
        answer = {"result": work(user)}
    except Exception as exc:
        answer = {"error": reason(exc)}
    try:
        data = json.dumps(answer).encode("ascii")
        while data:
            data = data[os.write(writer, data) :]
    finally:
        # Not sys.exit: what the parent has to do at its end must not be done twice.
        os._exit(0)


def _answer(data: bytes) -> Any:
    if not data:
        return Failed("it ended without a word")
    answer = json.loads(data.decode("ascii"))
    return Failed(answer["error"]) if "error" in answer else answer["result"]


def _end(child: _Child) -> None:
    os.close(child.reader)
    with contextlib.suppress(OSError):
        os.kill(child.pid, signal.SIGKILL)
    # One that hangs in a file system that has gone does not even end when it is killed. It must not hang this process too.
    for _attempt in range(100):
        if os.waitpid(child.pid, os.WNOHANG)[0]:
            return
        time.sleep(0.01)
