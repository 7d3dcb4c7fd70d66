# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.volume_state import FilterModule

volume_state = FilterModule().filters()["volume_state"]
VOLUMES = {"6": "data", "7": "data-7", "10": "data-10"}


def state(migrate_from="", is_downgrade=False, orphaned=()):
    return {"migrate_from": migrate_from, "is_downgrade": is_downgrade, "orphaned": list(orphaned)}


@pytest.mark.parametrize(
    ("release", "existing", "container", "expected"),
    [
        ("6", [], None, state()),
        ("6", ["data"], {"volumes": ["data"]}, state()),
        ("7", ["data"], {"volumes": ["data"]}, state(migrate_from="data")),
        ("7", ["data"], {"volumes": ["other", "data"]}, state(migrate_from="data")),
        # A migration that was interrupted can have created the new volume.
        ("7", ["data", "data-7"], {"volumes": ["data"]}, state(migrate_from="data")),
        ("7", ["data", "data-7"], {"volumes": ["data-7"]}, state()),
        ("6", ["data-7"], {"volumes": ["data-7"]}, state(migrate_from="data-7", is_downgrade=True)),
        ("7", ["data-10"], {"volumes": ["data-10"]}, state(migrate_from="data-10", is_downgrade=True)),
        ("10", ["data-7"], {"volumes": ["data-7"]}, state(migrate_from="data-7")),
        ("7", ["data"], None, state(orphaned=["data"])),
        ("7", ["data", "data-7"], None, state()),
        ("7", ["other"], None, state()),
        ("7", ["data"], {"volumes": ["other"]}, state(orphaned=["data"])),
        ("7", ["data"], {}, state(orphaned=["data"])),
    ],
)
def test_state(release, existing, container, expected):
    assert volume_state(VOLUMES, release, existing, container) == expected
