# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter with_read_users. Its documentation is in with_read_users.yml."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping


def with_read_users(indexes: Iterable[Mapping[str, Any]], users: list[str]) -> list[dict[str, Any]]:
    """Return the indexes, with ``users`` as ``acl_read`` of the private ones that do not set it. An empty list adds nothing."""

    def needs_users(index: Mapping[str, Any]) -> bool:
        is_private = index.get("type") != "mirror" and str(index["name"]).strip("/") != "root/pypi"
        return bool(users) and is_private and index.get("acl_read") is None

    return [{**index, "acl_read": users} if needs_users(index) else dict(index) for index in indexes]


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"with_read_users": with_read_users}
