# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter volume_state. Its documentation is in volume_state.yml."""

from __future__ import annotations

from typing import Any, Callable, Sequence


def volume_state(
    volumes: dict[str, str], release: str, existing: Sequence[str], container: dict[str, Any] | None
) -> dict[str, Any]:
    """Return how the volumes on a host relate to the one of the wanted release.

    ``volumes`` has the volume of each release, ``existing`` the volumes that exist, and ``container`` is the mirror's
    container, if it exists.
    """
    wanted = volumes[release]
    releases = {volume: name for name, volume in volumes.items() if volume != wanted}
    mounted = (container or {}).get("volumes") or []
    migrate_from = next((volume for volume in mounted if volume in releases), "")
    is_orphaned = wanted not in existing and not migrate_from
    return {
        "migrate_from": migrate_from,
        "is_downgrade": migrate_from != "" and int(releases[migrate_from]) > int(release),
        "orphaned": [volume for volume in existing if volume in releases] if is_orphaned else [],
    }


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"volume_state": volume_state}
