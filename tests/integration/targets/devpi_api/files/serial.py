# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the serial number of a devpi server, which every change of its database increases: serial.py URL."""

from __future__ import annotations

import sys
from urllib.request import ProxyHandler, build_opener

if __name__ == "__main__":
    with build_opener(ProxyHandler({})).open(sys.argv[1] + "/+api") as response:
        print(response.headers["X-Devpi-Serial"])
