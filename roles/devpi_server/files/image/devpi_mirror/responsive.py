"""Restart a devpi that runs and does not answer. supervisor runs this file and sends it an event every five seconds.

superlance's httpok connects to TCP ports only, and devpi listens on a Unix socket.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from xmlrpc.client import Fault

from supervisor import childutils  # type: ignore[import-not-found, import-untyped, unused-ignore]

from .devpi_api import StatusError, Unavailable, send

# Seconds that devpi has for one small answer, as a busy one must not be killed, and until it listens after a start.
ANSWER_LIMIT = 25.0
START_LIMIT = 120.0


def is_hung(process: Mapping[str, Any]) -> bool:
    """Return whether devpi does not answer although supervisor's information about its process says that it should."""
    if process["statename"] != "RUNNING":
        return False
    try:
        send("GET", "/+api", limit=ANSWER_LIMIT)
    except (Unavailable, StatusError, ValueError) as exc:
        has_no_socket = isinstance(exc.__cause__, (FileNotFoundError, ConnectionRefusedError))
        return not has_no_socket or process["now"] - process["start"] > START_LIMIT
    return False


def main() -> None:
    while True:
        childutils.listener.wait(sys.stdin, sys.stdout)
        supervisor = childutils.getRPCInterface(os.environ).supervisor
        if is_hung(supervisor.getProcessInfo("devpi")):
            print("devpi does not answer: restarting it", file=sys.stderr, flush=True)
            # It can have ended by itself meanwhile.
            with suppress(Fault):
                supervisor.stopProcess("devpi")
            with suppress(Fault):
                supervisor.startProcess("devpi")
        childutils.listener.ok(sys.stdout)


if __name__ == "__main__":
    main()
