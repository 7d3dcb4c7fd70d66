# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pip and uv on the controller, with the mirror on the test host as their only index."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from harness import MIRROR_PORT, PUBLIC, address

UV = str(Path(sys.executable).with_name("uv"))


def run(command: list[str]) -> str:
    """Run an installer without the configuration of the controller's user, and return its output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    done = subprocess.run(
        command, env=environ, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def url(index: str = PUBLIC) -> str:
    return f"http://{address()}:{MIRROR_PORT}{index}"


def pip(command: str, *arguments: str, index: str = PUBLIC) -> str:
    """Run a command of pip without its cache and without dependencies, and return its output."""
    return run(
        [
            *[sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", command, "--no-cache-dir"],
            *["--no-deps", "--index-url", url(index), "--trusted-host", address(), *arguments],
        ]
    )


def uv(*arguments: str, index: str = PUBLIC) -> str:
    """Run ``uv pip install`` without its cache, and return its output."""
    command = [UV, "--no-config", "--no-cache", "pip", "install", "--python", sys.executable]
    return run([*command, "--default-index", url(index), *arguments])


# Each returns the output of an installer, with the release of a project that it would install.
dry_run_pip = partial(pip, "install", "--dry-run", "--ignore-installed", "--no-input")
dry_run_uv = partial(uv, "--dry-run", "--reinstall")


def each_installer(with_pip: partial[str], with_uv: partial[str]) -> pytest.MarkDecorator:
    """Parametrize a test with both installers, and with the text between a project and its version in their output."""
    return pytest.mark.parametrize(
        ("install", "separator"), [pytest.param(with_pip, "-", id="pip"), pytest.param(with_uv, "==", id="uv")]
    )
