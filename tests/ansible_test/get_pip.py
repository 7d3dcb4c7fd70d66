# SPDX-License-Identifier: GPL-3.0-or-later
"""Install pip in a virtual environment, from the wheel that is part of Python, and then the requested packages.

ansible-test runs a script of this kind from its cache, and downloads one only if there is none.
"""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    packages = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
    subprocess.check_call([sys.executable, "-m", "ensurepip"])
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--retries", "5", *packages]))
