# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.mask_credentials import FilterModule

mask_credentials = FilterModule().filters()["mask_credentials"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://ada:secret@example.com/simple/", "https://***@example.com/simple/"),
        ("https://ada:p@ss@example.com/simple/", "https://***@example.com/simple/"),
        ("https://token@example.com", "https://***@example.com"),
        ("https://example.com/a@1 and http://b:c@d/", "https://example.com/a@1 and http://***@d/"),
        ("https://example.com?mail=a@b", "https://example.com?mail=a@b"),
        (3141, "3141"),
    ],
)
def test_credentials_in_urls_are_masked(text, masked):
    assert mask_credentials(text) == masked
