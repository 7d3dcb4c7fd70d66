# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_users. Its documentation is in invalid_users.yml."""

from __future__ import annotations

from typing import Any, Callable


def invalid_users(*args: Any, **options: Any) -> list[str]:
    """Return a message for each user that is invalid. The arguments are those of ``_users.invalid_users``."""
    # Ansible loads all filters of a collection in each process that uses one. This import takes longer than loading them.
    from ansible_collections.devpi.mirror.plugins.plugin_utils import _users

    return _users.invalid_users(*args, **options)


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"invalid_users": invalid_users}
