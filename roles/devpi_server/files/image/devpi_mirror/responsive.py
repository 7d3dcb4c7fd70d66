# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart a devpi that runs but does not respond. supervisor runs this file and sends it an event every five seconds.

superlance's httpok supports TCP ports only, and devpi listens on a Unix socket.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from xmlrpc.client import Fault

from supervisor import childutils  # type: ignore[import-not-found, import-untyped, unused-ignore]

from .devpi_api import StatusError, UnavailableError, send

# Seconds for a small response, as a busy devpi must not be killed, and for devpi to start.
RESPONSE_TIMEOUT = 25.0
START_TIMEOUT = 120.0


def is_hung(process: Mapping[str, Any]) -> bool:
    """Return whether devpi does not respond although it should, by supervisor's information about its process."""
    if process["statename"] != "RUNNING":
        return False
    try:
        send("GET", "/+api", limit=RESPONSE_TIMEOUT)
    except (UnavailableError, StatusError, ValueError) as exc:
        has_no_socket = isinstance(exc.__cause__, (FileNotFoundError, ConnectionRefusedError))
        return not has_no_socket or process["now"] - process["start"] > START_TIMEOUT
    return False


def main() -> None:
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        supervisor = childutils.getRPCInterface(os.environ).supervisor
        if is_hung(supervisor.getProcessInfo("devpi")):
            print("devpi does not respond: restarting it", file=sys.stderr, flush=True)
            # It can have ended in the meantime.
            with suppress(Fault):
                supervisor.stopProcess("devpi")
            with suppress(Fault):
                supervisor.startProcess("devpi")
        childutils.listener.ok(sys.stdout)


if __name__ == "__main__":
    main()
