# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing something with the rights of a user, and no others.

Private to the collection. What root does inside a home, a symlink of the user's can lead elsewhere; what the user
does, it can only lead where the user could go anyway.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import time
from typing import Any, Callable, Dict


class Failed(Exception):
    """The work was not done. The message says why."""


def run_as(user: pwd.struct_passwd, work: Callable[[], Dict[str, Any]], limit: float = 60.0) -> Dict[str, Any]:
    """Return what ``work`` returns when it is done with the rights of ``user``.

    ``work`` runs in a process of its own and must return what JSON can carry. Raises Failed if it raises, takes longer
    than ``limit`` seconds (a home on a network file system that has gone), or if this process may not become that user.
    """
    if os.geteuid() not in (0, user.pw_uid):
        raise Failed("only root can write the files of %s: run this with become" % user.pw_name)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(user, work, writer)
    os.close(writer)
    try:
        answer = _read(reader, limit)
    finally:
        os.close(reader)
        if _still_runs(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if "error" in answer:
        raise Failed(str(answer["error"]))
    return answer


def _child(user: pwd.struct_passwd, work: Callable[[], Dict[str, Any]], writer: int) -> None:
    try:
        if os.geteuid() == 0:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        os.umask(0o022)
        os.chdir("/")
        answer = work()
    except OSError as exc:
        answer = {"error": "%s: %s" % (exc.filename, exc.strerror) if exc.filename else str(exc)}
    except Exception as exc:
        answer = {"error": str(exc) or type(exc).__name__}
    try:
        data = json.dumps(answer).encode("ascii")
        while data:
            data = data[os.write(writer, data) :]
    finally:
        # Not sys.exit: what the parent has to do at its end must not be done twice.
        os._exit(0)


def _read(reader: int, limit: float) -> Dict[str, Any]:
    deadline = time.monotonic() + limit
    data = b""
    while True:
        ready = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            return {"error": "it took longer than %d seconds, and was given up" % limit}
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            break
        data += chunk
    if not data:
        return {"error": "it ended without a word"}
    answer: Dict[str, Any] = json.loads(data.decode("ascii"))
    return answer


def _still_runs(child: int) -> bool:
    # The pipe is closed at the child's very end, so that a moment is enough.
    for _attempt in range(100):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.01)
    return True
