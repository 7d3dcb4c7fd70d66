# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands with a time limit, which ``AnsibleModule.run_command`` does not have.

Private to the collection.
"""

from __future__ import annotations

import subprocess
from typing import Mapping, Sequence


def execute(command: Sequence[str], env: Mapping[str, str], timeout: float) -> tuple[int, str, str]:
    """Return the exit code, the output and the errors of a command.

    After ``timeout`` seconds, kills the command and raises ``subprocess.TimeoutExpired``.
    """
    # run_command has no time limit.
    with subprocess.Popen(  # pylint: disable=ansible-bad-function
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=env,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, output, errors
