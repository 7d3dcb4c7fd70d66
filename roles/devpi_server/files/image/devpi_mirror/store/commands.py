# SPDX-License-Identifier: GPL-3.0-or-later
"""Run devpi's commands."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from ..config import BIN
from .errors import DataError


def run(failure: str, environ: Mapping[str, str], command: str, *arguments: str) -> None:
    """Run a command. Raises DataError, with ``failure`` and the end of its output, if it fails."""
    done = subprocess.run(
        [BIN / command, *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DataError(f"{failure}: " + " ".join(done.stdout.split())[-900:])
