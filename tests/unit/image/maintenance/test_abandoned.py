# SPDX-License-Identifier: GPL-3.0-or-later
"""What the maintenance does with abandoned temporary files."""

from __future__ import annotations

import os
import time

import pytest


def test_abandoned_files_are_removed(maintenance, files, store_file):
    path = files / store_file(b"content")
    temporary = maintenance.config.TEMPORARY
    current, old = path.with_name("current-0123-tmp"), path.with_name("old-0123-tmp")
    for file in (current, old, temporary / "old"):
        file.write_bytes(b"part")
    for file in (path, old, temporary / "old"):
        os.utime(file, (1, 1))
    stalled = temporary / "stalled.part"
    stalled.write_bytes(b"part")
    os.utime(stalled, (time.time() - 300,) * 2)
    maintenance.abandoned.remove_abandoned()
    assert (path.exists(), current.exists(), old.exists()) == (True, True, False)
    assert list(temporary.iterdir()) == [stalled]


@pytest.mark.parametrize(
    ("content", "exists", "is_recovered"),
    [(b"private", False, True), (b"half", False, False), (b"private", True, False)],
)
@pytest.mark.parametrize("suffix", ["-tmp", "-0123456789abcdef-tmp"])
def test_a_complete_file_is_recovered(maintenance, files, store_file, content, exists, is_recovered, suffix):
    target = files / store_file(b"private", "alice/private")
    abandoned = target.with_name(target.name + suffix)
    abandoned.write_bytes(content)
    os.utime(abandoned, (1, 1))
    if not exists:
        target.unlink()
    maintenance.abandoned.remove_abandoned()
    assert not abandoned.exists()
    assert target.exists() == (exists or is_recovered)
    if target.exists():
        assert target.read_bytes() == b"private"
