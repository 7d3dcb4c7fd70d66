# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands as users of the test host, in login shells, and read their files."""

from __future__ import annotations

import subprocess

from harness import ON_HOST

INDEX = "http://127.0.0.1:3141/root/pypi/+simple/"
# The clients that side_effect.yml installs, which all users may run.
BIN = "/home/dev/.local/clients/bin"
PYTHON = f"{BIN}/python"


def attempt_as(user: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with bash as a user."""
    arguments = [*ON_HOST, "runuser", "-l", user, "-c", command]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def run_as(user: str, command: str, attempts: int = 1) -> str:
    """Run a command as a user and return its output. ``attempts`` is for commands that need the network."""
    for _attempt in range(attempts):
        done = attempt_as(user, command)
        if done.returncode == 0:
            return done.stdout
    raise AssertionError(f"exit code {done.returncode}: {command}\n{done.stdout}\n{done.stderr}")


def read_file(path: str) -> str:
    """Return the text of a file, with the line endings that it has. Raises AssertionError if it does not exist."""
    done = subprocess.run([*ON_HOST, "cat", path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def read_lines(path: str) -> list[str]:
    return read_file(path).split("\n")


def exists(path: str) -> bool:
    """Return whether a path exists, be it a broken link."""
    return (
        subprocess.run([*ON_HOST, "sh", "-c", 'test -e "$1" || test -L "$1"', "sh", path], check=False).returncode == 0
    )
