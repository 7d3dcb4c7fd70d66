# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter normalized_names. Its documentation is in normalized_names.yml."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping


def normalized_names(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return users or indexes whose names are texts without slashes around them, as devpi returns them."""
    return [{**item, "name": str(item["name"]).strip("/")} for item in items]


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"normalized_names": normalized_names}
