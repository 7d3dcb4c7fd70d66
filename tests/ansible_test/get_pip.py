"""Put pip into a new virtual environment, from the copy that Python brings, and then the packages that are asked for.

ansible-test looks for a script of this kind in its cache before it fetches one from a host of its own.
"""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
    subprocess.check_call([sys.executable, "-m", "ensurepip"])
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--retries", "5", *wanted]))
