# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy or link the mirrored files of one data directory to another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def copy_missing(index: str, source: Path, target: Path, copy: Callable[[Path, Path], Any] = shutil.copy2) -> None:
    """Copy the files of a mirror index from one data directory to another, so that they are not downloaded again."""
    for path in (source / "+files" / index).rglob("*"):
        copied = target / path.relative_to(source)
        if path.is_file() and not path.name.endswith("-tmp") and not copied.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            # It can be evicted meanwhile.
            with suppress(FileNotFoundError):
                copy(path, copied)


def link_missing(index: str, source: Path, target: Path) -> None:
    """Link the files of a mirror index from one data directory to another on the same volume."""
    copy_missing(index, source, target, os.link)
