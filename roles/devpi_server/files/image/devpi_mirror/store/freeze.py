# SPDX-License-Identifier: GPL-3.0-or-later
"""Freeze the mirror: nginx refuses changes by clients, and the maintenance does not run."""

from __future__ import annotations

import xmlrpc.client
from contextlib import suppress
from pathlib import Path

# If it exists, nginx refuses changes.
FROZEN = Path("/tmp/frozen")


def supervise(method: str, program: str = "devpi") -> None:
    """Call a method of supervisor for a program, such as stopProcess. Raises OSError or xmlrpc.client.Fault."""
    from supervisor.xmlrpc import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        SupervisorTransport,
    )

    transport = SupervisorTransport(None, None, "unix:///tmp/supervisor.sock")
    getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor, method)(program)


def freeze() -> None:
    with suppress(xmlrpc.client.Fault):
        supervise("stopProcess", "maintenance")
    # A compaction that this interrupts may have stopped devpi.
    with suppress(xmlrpc.client.Fault):
        supervise("startProcess")
    FROZEN.touch()


def unfreeze() -> None:
    FROZEN.unlink(missing_ok=True)
    with suppress(xmlrpc.client.Fault):
        supervise("startProcess", "maintenance")
