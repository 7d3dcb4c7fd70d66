# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_indexes. Its documentation is in invalid_indexes.yml."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible_collections.devpi.mirror.plugins.module_utils import _api
from ansible_collections.devpi.mirror.plugins.modules import devpi_index


def check(index: Mapping[str, Any]) -> None:
    """Raise RefusedError if devpi_index would refuse to create an index with these settings."""
    _api.check_index(index["name"])
    # As a module does, take a text for a list with one value.
    settings = {
        name: value.split(",")
        if isinstance(value, str) and devpi_index.SETTINGS.get(name, {}).get("type") == "list"
        else value
        for name, value in index.items()
    }
    wanted = devpi_index.wanted_settings({**dict.fromkeys(devpi_index.SETTINGS), **settings})
    kind = index.get("type") or "private"
    devpi_index.check_type(kind, wanted)
    devpi_index.check_new(kind, wanted)


def invalid_indexes(indexes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a message for each index whose settings are invalid, and for each that is listed twice."""
    messages = []
    names = []
    for index in indexes:
        name = str(index["name"])
        if name in names:
            messages.append(f"devpi_server_indexes lists {name} twice: remove one of them.")
        names.append(name)
        try:
            check(index)
        except _api.RefusedError as exc:
            messages.append(f"devpi_server_indexes, {name}: {exc}")
    return messages


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"invalid_indexes": invalid_indexes}
