# SPDX-License-Identifier: GPL-3.0-or-later
"""How the image's page_store.py stores pages, also if the disk fails."""

from __future__ import annotations

import os

import pytest
from devpi_mirror import page_store
from devpi_mirror.page_store import Header, PageStore, tag_of


@pytest.mark.parametrize("project", ["absent", "a" * 300])
def test_a_page_that_can_not_be_read_does_not_exist(tmp_path, project):
    assert PageStore(tmp_path).get(project) is None


@pytest.fixture
def stored(tmp_path):
    """A page that was stored at a time of 7 seconds."""
    return PageStore(tmp_path, lambda: 7.0).write("alpha", Header("", "", tag_of(b"form"), 0, 4, 0), b"form", b"")


def test_a_page_is_confirmed_when_it_is_stored_and_later(tmp_path, stored):
    store = PageStore(tmp_path)
    assert store.get("alpha").confirmed == 7.0
    stored.confirm(9.0)
    assert store.get("alpha").confirmed == 9.0


@pytest.mark.parametrize("state", ["removed", "replaced"])
def test_only_the_page_that_the_upstream_confirms_is_confirmed(tmp_path, stored, state):
    path = PageStore(tmp_path).path("alpha")
    content = path.read_bytes()
    path.unlink()
    if state == "replaced":
        path.write_bytes(content)
        os.utime(path, (8.0, 8.0))
    stored.confirm(9.0)
    found = PageStore(tmp_path).get("alpha")
    assert (found and found.confirmed) == (8.0 if state == "replaced" else None)
    assert stored.form() == b"form"


def test_a_page_that_can_not_be_confirmed_is_served(stored, monkeypatch):
    def fail(*_arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(page_store.os, "utime", fail)
    stored.confirm(9.0)
    assert (stored.confirmed, stored.form()) == (7.0, b"form")
