# SPDX-License-Identifier: GPL-3.0-or-later
"""Print a free port for a server that starts later.

It is below the range from which the kernel chooses ports for other programs.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    print(next(port for port in random.sample(range(10000, first), 100) if is_free(port)))
