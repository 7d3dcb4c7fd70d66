# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.invalid_indexes import FilterModule

invalid_indexes = FilterModule().filters()["invalid_indexes"]
VALID = [
    {"name": "acme/stable", "bases": ["root/pypi"], "volatile": False, "acl_upload": ["bot"]},
    {"name": "root/other", "type": "mirror", "mirror_url": "https://example.com/simple/"},
]


def test_valid_indexes():
    assert invalid_indexes(VALID) == []
    assert invalid_indexes([{"name": "acme/dev", "bases": "root/pypi", "acl_upload": "bot"}]) == []


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"name": "stable"}, "Use the form user/index"),
        ({"name": "root/other", "type": "mirror"}, "without mirror_url"),
        ({"name": "root/other", "mirror_url": "https://example.com/simple/"}, "no setting mirror_url"),
        (
            {"name": "root/other", "type": "mirror", "mirror_url": "https://a:secret@example.com/"},
            "contains credentials",
        ),
        ({"name": "acme/stable", "bases": ["pypi"]}, "bases"),
    ],
)
def test_an_invalid_index_is_named(index, expected):
    (message,) = invalid_indexes([index])
    assert message.startswith(f"devpi_server_indexes, {index['name']}: ")
    assert expected in message
    assert "secret" not in message
    assert "Nothing was changed" not in message


def test_an_index_that_is_listed_twice():
    assert invalid_indexes([*VALID, VALID[0]]) == ["devpi_server_indexes lists acme/stable twice: remove one of them."]
