# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_values. Its documentation is in invalid_values.yml."""

from __future__ import annotations

import re
from typing import Any, Callable, Sequence

# An invalid URL can have its password anywhere before the last "@".
CREDENTIALS = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
TYPES = {"list": (list, tuple), "dict": (dict,), "text": (str,)}


def problem(entry: dict[str, str], value: Any) -> str:
    """Return what is wrong with a value, empty if it is valid. A value of another type can contain secrets."""
    # Releases of ansible-core before 2.19 have a type of their own for texts of Ansible Vault.
    is_vaulted = entry.get("type") == "text" and getattr(value, "__ENCRYPTED__", False)
    if "type" in entry and not is_vaulted and not isinstance(value, TYPES[entry["type"]]):
        return f"is not a {entry['type']}"
    if "pattern" not in entry:
        return ""
    text = "" if value is None else str(value)
    masked = CREDENTIALS.sub(r"\1***@", text)
    return "" if re.fullmatch(entry["pattern"], text) else entry.get("cause", f"is '{masked}'")


def invalid_values(patterns: Sequence[dict[str, str]], values: Sequence[Any]) -> list[str]:
    """Return a message for each value that its entry does not allow. A value of None is an empty text."""
    if len(patterns) != len(values):
        raise ValueError(f"{len(patterns)} patterns and {len(values)} values")
    found = [(entry, problem(entry, value)) for entry, value in zip(patterns, values)]
    return [f"{entry['name']} {cause}: set it to {entry['expected']}." for entry, cause in found if cause]


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[Sequence[dict[str, str]], Sequence[Any]], list[str]]]:
        return {"invalid_values": invalid_values}
