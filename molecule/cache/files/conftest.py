# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of all tests of the cache scenario."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import set_upstream_mode


@pytest.fixture(autouse=True)
def upstream() -> Iterator[None]:
    """Have the upstream work normally before and after each test."""
    set_upstream_mode("normal")
    yield
    set_upstream_mode("normal")
