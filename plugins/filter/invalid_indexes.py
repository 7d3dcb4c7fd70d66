# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_indexes. Its documentation is in invalid_indexes.yml."""

from __future__ import annotations

from typing import Any, Callable


def invalid_indexes(*args: Any, **options: Any) -> list[str]:
    """Return a message for each index that is invalid. The arguments are those of ``_indexes.invalid_indexes``."""
    # Ansible loads all filters of a collection in each process that uses one. This import takes longer than loading them.
    from ansible_collections.devpi.mirror.plugins.plugin_utils import _indexes

    return _indexes.invalid_indexes(*args, **options)


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"invalid_indexes": invalid_indexes}
