# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.normalized_names import FilterModule

normalized_names = FilterModule().filters()["normalized_names"]


@pytest.mark.parametrize(
    ("name", "expected"), [("acme/dev", "acme/dev"), ("/acme/dev//", "acme/dev"), (2026, "2026"), ("a//b", "a//b")]
)
def test_names_are_those_that_devpi_returns(name, expected):
    assert normalized_names([{"name": name, "title": "x"}]) == [{"name": expected, "title": "x"}]
