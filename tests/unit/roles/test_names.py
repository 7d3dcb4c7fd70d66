"""What the image calls things in devpi-server 6 and 7, against the devpi-server that the tests have."""

from __future__ import annotations

import pytest

VALUES = {
    "mirror_url": "u",
    "mirror_provides_core_metadata": True,
    "DEVPISERVER_MIRROR_CACHE_EXPIRY": "300",
    "other": 1,
}


@pytest.fixture
def names(load):
    return load("names")


def test_in_6_nothing_is_renamed(names):
    assert names.MAJOR == 6
    assert names.renamed(VALUES) == VALUES


def test_in_7_what_is_gone_is_left_out(names, monkeypatch):
    monkeypatch.setattr(names, "MAJOR", 7)
    assert names.renamed(VALUES) == {"remote_url": "u", "DEVPISERVER_REMOTE_REFRESH_DELAY": "300", "other": 1}
