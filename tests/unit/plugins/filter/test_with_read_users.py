# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.with_read_users import FilterModule

with_read_users = FilterModule().filters()["with_read_users"]


@pytest.mark.parametrize("index", [{"name": "acme/dev"}, {"name": "acme/dev", "type": "private", "acl_read": None}])
def test_private_index(index):
    assert with_read_users([index], ["ada"]) == [{**index, "acl_read": ["ada"]}]
    assert with_read_users([index], []) == [index]


@pytest.mark.parametrize(
    "index",
    [
        {"name": "root/other", "type": "mirror"},
        {"name": "/root/pypi/", "min_release_age": "7d"},
        {"name": "acme/dev", "acl_read": ["bob"]},
        {"name": "acme/dev", "acl_read": []},
    ],
    ids=["mirror", "public index", "own users", "own empty list"],
)
def test_other_index(index):
    assert with_read_users([index], ["ada"]) == [index]
