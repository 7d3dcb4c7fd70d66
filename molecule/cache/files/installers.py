"""pip and uv on the controller, with the mirror on the test host as their only index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import MIRROR_PORT, PUBLIC, address

UV = str(Path(sys.executable).with_name("uv"))


def run(command: list[str]) -> str:
    """Run an installer without the configuration of the controller's user. Returns what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    done = subprocess.run(
        command, env=environ, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def url(index: str = PUBLIC) -> str:
    return f"http://{address()}:{MIRROR_PORT}{index}"


def pip(command: str, *arguments: str, index: str = PUBLIC) -> str:
    """Run a command of pip without its cache, for a project alone. Returns what it prints."""
    return run(
        [
            *[sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", command, "--no-cache-dir"],
            *["--no-deps", "--index-url", url(index), "--trusted-host", address(), *arguments],
        ]
    )


def uv(*arguments: str, index: str = PUBLIC) -> str:
    """Run ``uv pip install`` without its cache. Returns what it prints."""
    command = [UV, "--no-config", "--no-cache", "pip", "install", "--python", sys.executable]
    return run([*command, "--default-index", url(index), *arguments])
