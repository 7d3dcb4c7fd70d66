# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter split_credentials. Its documentation is in split_credentials.yml."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask


def split_credentials(indexes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the indexes without credentials in their URLs, and the URLs that had some, by the name of the index."""
    found: list[dict[str, Any]] = []
    credentials = {}
    for index in indexes:
        url = index.get("mirror_url")
        public = mask(url).replace("://***@", "://") if isinstance(url, str) else url
        if public != url:
            credentials[str(index["name"]).strip("/")] = url
        found.append({**index, "mirror_url": public} if public != url else dict(index))
    return {"indexes": found, "credentials": credentials}


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"split_credentials": split_credentials}
