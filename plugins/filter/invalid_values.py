# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_values. Its documentation is in invalid_values.yml."""

from __future__ import annotations

import re
from typing import Any, Callable, Sequence

# An invalid URL can have its password anywhere before the last "@".
CREDENTIALS = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)


def invalid_values(patterns: Sequence[dict[str, str]], values: Sequence[Any]) -> list[str]:
    """Return a message for each value that its pattern does not match as a whole. A value of None is an empty one."""
    if len(patterns) != len(values):
        raise ValueError(f"{len(patterns)} patterns and {len(values)} values")
    messages = []
    for entry, value in zip(patterns, values):
        text = "" if value is None else str(value)
        if not re.fullmatch(entry["pattern"], text):
            masked = CREDENTIALS.sub(r"\1***@", text)
            messages.append(f"{entry['name']} is '{masked}': set it to {entry['expected']}.")
    return messages


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[Sequence[dict[str, str]], Sequence[Any]], list[str]]]:
        return {"invalid_values": invalid_values}
