# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a backup in a container of its own: unpack it, compare all files with their hashes, and start devpi-server from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from .. import devpi_api
from ..config import DATA, TEMPORARY
from . import commands
from .archive import Manifest, unpack
from .errors import DataError


def check() -> Manifest:
    """Check the backup from standard input in this container's empty volume, and return its manifest. Raises DataError."""
    from ..entrypoint import SERVER, await_server, set_default_options

    manifest = unpack(DATA)
    environ = dict(os.environ)
    set_default_options(environ)
    TEMPORARY.mkdir(exist_ok=True)
    commands.run("devpi-fsck found errors in the backup", environ, "devpi-fsck")
    process = subprocess.Popen(SERVER, env=environ, stdout=sys.stderr)
    try:
        await_server(process)
        users = devpi_api.send("GET", "/")["result"]
    except (RuntimeError, OSError, ValueError) as exc:
        raise DataError(f"devpi-server can't serve from the backup ({exc})") from exc
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    indexes = {f"{user}/{name}" for user, about in users.items() for name in about.get("indexes", {})}
    return {**manifest, "users": sorted(users), "indexes": sorted(indexes)}
