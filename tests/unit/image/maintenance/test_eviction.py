# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files and pages the maintenance evicts."""

from __future__ import annotations

import os
import time

import pytest

HOUR = 3600


@pytest.mark.parametrize(
    ("size", "age", "evicted"),
    [
        (0, 0, []),
        (0, 5 * HOUR, ["oldest", "old"]),
        (400, 0, []),
        # A tenth of the limit is freed too.
        (399, 0, ["oldest"]),
        (300, 0, ["oldest", "old"]),
        (1000, HOUR // 2, ["oldest", "old", "new", "newest"]),
        (90, 10 * HOUR, ["oldest", "old", "new", "newest"]),
    ],
)
def test_evict_least_recently_used(maintenance, size, age, evicted):
    used = {"new": 2, "oldest": 11, "newest": 1, "old": 6}
    files = [maintenance.data_directory.StoredFile(name, 100, 1e6 - hours * HOUR) for name, hours in used.items()]
    assert [file.path for file in maintenance.eviction.select_evicted(files, size, age, 1e6)] == evicted


def test_only_mirrored_files_are_evicted(maintenance, files, store_file, monkeypatch, capsys):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_AGE", "1h")
    paths = [store_file(b"public"), store_file(b"private", "alice/private")]
    for path in paths:
        os.utime(files / path, (1, 1))
    maintenance.eviction.evict_files()
    assert [(files / path).exists() for path in paths] == [False, True]
    assert "Evicted the 1 least recently used files (6 bytes)" in capsys.readouterr().out


@pytest.mark.parametrize(("cached", "is_evicted"), [("HIT", False), ("MISS", True)])
def test_a_cache_miss_makes_the_next_run_evict_files(maintenance, files, store_file, monkeypatch, cached, is_evicted):
    monkeypatch.setenv("DEVPI_MIRROR_CACHE_MAX_SIZE", "1b")
    path = store_file(b"content")
    maintenance.usage.REQUEST_LOG.write_text(f"{cached} /root/pypi/+simple/a/\n")
    maintenance.main.run(everything=False)
    assert (files / path).exists() != is_evicted


def add_page(maintenance, name: str, size: int, requested: float) -> None:
    path = maintenance.config.PAGES / "root" / "pypi" / "0123" / f"{name}.page"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (requested, requested))


def list_pages(maintenance) -> list[str]:
    return sorted(path.stem for path in maintenance.config.PAGES.rglob("*.page"))


def test_pages_that_were_not_requested_for_a_year_are_evicted(maintenance):
    now = time.time()
    add_page(maintenance, "new", 10, now - maintenance.eviction.PAGES_AGE + HOUR)
    add_page(maintenance, "old", 10, now - maintenance.eviction.PAGES_AGE - HOUR)
    removals = maintenance.config.PAGES / "root" / "pypi" / "0123" / "removed.json"
    removals.write_text("[]")
    maintenance.main.run(everything=False)
    assert list_pages(maintenance) == ["new", "old"]
    maintenance.main.run(everything=True)
    assert list_pages(maintenance) == ["new"]
    assert removals.exists()
    assert maintenance.state.read_state()["failed_steps"] == {}


def test_the_size_of_all_pages_is_limited(maintenance, monkeypatch):
    monkeypatch.setattr(maintenance.eviction, "PAGES_SIZE", 100)
    now = time.time()
    for hours, name in enumerate(("newest", "new", "old", "oldest")):
        add_page(maintenance, name, 30, now - hours * HOUR)
    maintenance.eviction.evict_pages()
    assert list_pages(maintenance) == ["new", "newest", "old"]


def test_there_may_be_no_pages(maintenance):
    maintenance.config.PAGES.rmdir()
    maintenance.eviction.evict_pages()
    assert maintenance.status.removed_projects() == []
