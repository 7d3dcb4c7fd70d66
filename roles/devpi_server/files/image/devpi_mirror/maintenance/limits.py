# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits from the environment, such as ``90d`` or ``20g``. A limit of 0, or none at all, means unlimited."""

from __future__ import annotations

import os
import re

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_amount(text: str, units: dict[str, int]) -> float:
    """Return the number of seconds or bytes that a text means. An empty text is 0. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]?)", text.strip().lower() or "0")
    if not found or found[2] not in units:
        raise ValueError(f"{text!r} is not a number with an optional unit ({', '.join(filter(None, units))})")
    return float(found[1]) * units[found[2]]


def byte_limit(name: str) -> float:
    """Return a limit in bytes. Raises ValueError."""
    return parse_amount(os.environ.get(f"DEVPI_MIRROR_{name}", ""), BYTES)


def time_limit(name: str) -> float:
    """Return a limit in seconds. Raises ValueError."""
    return parse_amount(os.environ.get(f"DEVPI_MIRROR_{name}", ""), SECONDS)
