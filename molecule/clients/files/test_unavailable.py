# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients do while the mirror is stopped. unavailable.yml stops it, and configures the fallback in between."""

from __future__ import annotations

import time
from subprocess import CompletedProcess

from user_commands import BIN, PYTHON, attempt_as, run_as

PIP = f"{PYTHON} -m pip --disable-pip-version-check"
DOWNLOAD = f"rm -rf ~/downloads && {PIP} download --no-cache-dir --no-deps --dest ~/downloads six"


def attempt_timed(name: str, command: str) -> CompletedProcess[str]:
    """Run a command as ada, and print how long it takes."""
    started = time.monotonic()
    done = attempt_as("ada", command)
    print(f"FIGURE {name}: {time.monotonic() - started:.1f} s", flush=True)
    return done


class TestWithoutFallback:
    def test_pip_fails_and_prints_the_reason(self) -> None:
        done = attempt_timed("pip without the mirror", DOWNLOAD)
        assert done.returncode == 1
        assert "No matching distribution found for six" in done.stderr
        assert "Connection reset by peer" in done.stderr or "Remote end closed connection" in done.stderr

    def test_uv_fails(self) -> None:
        run_as("ada", f"{BIN}/uv -q venv --clear ~/environment")
        done = attempt_timed("uv without the mirror", f"cd ~/environment && {BIN}/uv pip install --no-cache six")
        run_as("ada", "rm -rf ~/environment")
        assert done.returncode == 2

    def test_an_environment_variable_disables_the_configuration(self) -> None:
        assert "index-url" not in run_as("ada", f"PIP_CONFIG_FILE=/dev/null {PIP} config list")


class TestWithFallback:
    def test_pip_installs_from_the_fallback(self) -> None:
        done = attempt_timed("pip with a fallback", f"{DOWNLOAD} && rm -rf ~/downloads")
        assert done.returncode == 0, done.stderr
