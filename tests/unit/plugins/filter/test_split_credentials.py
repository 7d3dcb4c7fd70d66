# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.split_credentials import FilterModule

split_credentials = FilterModule().filters()["split_credentials"]


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://ada:secret@example.com/simple/", "https://example.com/simple/"),
        ("https://token@example.com:8443/", "https://example.com:8443/"),
        ("https://ada:s@cret@example.com/", "https://example.com/"),
        ("https://***@example.com/", "https://example.com/"),
    ],
)
def test_url_with_credentials(url, public):
    index = {"name": "/root/other", "type": "mirror", "mirror_url": url}
    assert split_credentials([index]) == {
        "indexes": [{**index, "mirror_url": public}],
        "credentials": {"root/other": url},
    }


@pytest.mark.parametrize(
    "index",
    [
        {"name": "acme/dev"},
        {"name": "root/other", "mirror_url": "https://example.com/simple/"},
        {"name": "root/other", "mirror_url": "https://example.com/@scope/"},
        {"name": "root/other", "mirror_url": None},
    ],
)
def test_index_without_credentials(index):
    assert split_credentials([index]) == {"indexes": [index], "credentials": {}}
