# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the volume that only the mirror's user can read."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path


def write_secret(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(path)


def random_text(size: int) -> str:
    """Return ``size`` random bytes as text."""
    return base64.urlsafe_b64encode(secrets.token_bytes(size)).decode("ascii")


def create_random(path: Path, size: int) -> str:
    """Return the text in ``path``, which is created from ``size`` random bytes."""
    if not path.exists():
        write_secret(path, random_text(size))
    return path.read_text()
