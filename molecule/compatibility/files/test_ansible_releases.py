# SPDX-License-Identifier: GPL-3.0-or-later
"""All supported releases of ansible-core deploy and remove the same mirror."""

from __future__ import annotations

import pytest
from plays import Life, live

RELEASES = ("2.15", "2.16", "2.18", "2.19", "2.20", "2.21")


@pytest.fixture(scope="module")
def newest() -> Life:
    """Return what the newest release does."""
    return live(RELEASES[-1])


@pytest.mark.parametrize("release", RELEASES[:-1])
def test_release(newest: Life, release: str) -> None:
    assert live(release) == newest
