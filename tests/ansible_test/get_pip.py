# SPDX-License-Identifier: GPL-3.0-or-later
"""Install packages in a virtual environment that has no pip, with the wheel of pip that is part of Python.

ansible-test runs a script of this kind from its cache, and downloads one only if there is none.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    packages = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
    # ensurepip would spend seconds on installing its wheel, which can also run as it is.
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
    (wheel,) = Path(folder).glob("pip-*.whl")
    command = [sys.executable, "-m", "pip", "install", "--retries", "5", "--no-compile", *packages]
    sys.exit(subprocess.call(command, env={**os.environ, "PYTHONPATH": str(wheel)}))
