# SPDX-License-Identifier: GPL-3.0-or-later
"""How the maintenance reads limits from the environment."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("", "BYTES", 0),
        ("20g", "BYTES", 20 * 1024**3),
        ("1.5M", "BYTES", 1.5 * 1024**2),
        ("90d", "SECONDS", 90 * 86400),
        ("7", "SECONDS", 7),
    ],
)
def test_amounts(maintenance, text, units, value):
    assert maintenance.limits.parse_amount(text, getattr(maintenance.limits, units)) == value


@pytest.mark.parametrize("text", ["much", "7g", "-1", "1 d 2"])
def test_invalid_amounts(maintenance, text):
    with pytest.raises(ValueError, match="is not a number with an optional unit"):
        maintenance.limits.parse_amount(text, maintenance.limits.SECONDS)


def test_limits_are_named_after_environment_variables(maintenance, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_SIZE", "1k")
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    assert (maintenance.limits.byte_limit("CACHE_MAX_SIZE"), maintenance.limits.time_limit("CACHE_MAX_AGE")) == (
        1024,
        3600,
    )
    assert maintenance.limits.byte_limit("DATABASE_MAX_SIZE") == 0
