"""What the image's ahead.py fetches for whoever asks for one thing after another."""

from __future__ import annotations

import pytest

pytest.importorskip("packaging")

METADATA = b"""Metadata-Version: 2.1
Name: black
Requires-Dist: click>=8.0.0
Requires-Dist: Typing_Extensions>=4.0.1; python_version < "3.11"
Requires-Dist: aiohttp>=3.10; extra == "d"
Requires-Dist: click!=8.1
Requires-Dist: not a requirement

Requires-Dist: of-the-description
"""
WHEEL = "/root/pypi/+f/0123/4567/black-26.1-py3-none-any.whl"


@pytest.fixture
def module(load):
    return load("ahead")


@pytest.fixture
def ahead(module):
    """Fetch nothing, and tell what would be; ``now`` is the time."""
    seen = []
    made = module.Ahead(seen.append, lambda: made.now)
    made.now = 0.0
    made.seen = seen

    def all_seen():
        for pool in (made.pages, made.files):
            pool.shutdown()
        return sorted(seen)

    made.all_seen = all_seen
    return made


def test_projects_that_metadata_requires(module):
    assert module.required(METADATA) == ["click", "typing-extensions"]
    assert module.required(b"") == []


def test_what_follows_metadata(ahead):
    ahead.go_on_from(WHEEL + ".metadata", METADATA)
    assert ahead.all_seen() == [WHEEL, "/root/pypi/+simple/click/", "/root/pypi/+simple/typing-extensions/"]


def test_of_a_project_whose_releases_are_tried_one_file_is_fetched(ahead):
    paths = [WHEEL.replace("26.1", version) for version in ("26.1", "25.1", "24.1")]
    for path in paths[:2]:
        ahead.go_on_from(path + ".metadata", b"")
    ahead.now += 601
    ahead.go_on_from(paths[2] + ".metadata", b"")
    assert ahead.all_seen() == sorted([paths[0], paths[2]])


@pytest.mark.parametrize("path", ["/alice/private/+f/0123/4567/black-26.1-py3-none-any.whl.metadata", WHEEL, "/+api"])
def test_nothing_else_is_followed(ahead, path):
    ahead.go_on_from(path, METADATA)
    assert ahead.all_seen() == []


def test_what_is_not_there_is_nobodys_trouble(module, monkeypatch):
    monkeypatch.setattr(module, "MIRROR", "http://127.0.0.1:9")
    module.fetch("/root/pypi/+simple/click/")
