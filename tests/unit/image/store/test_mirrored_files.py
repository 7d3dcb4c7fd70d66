# SPDX-License-Identifier: GPL-3.0-or-later
"""How mirrored files are copied from one data directory to another."""

from __future__ import annotations


def test_only_missing_files_of_a_mirror_are_copied(store, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for name, folder in (("a.whl", source), ("b.whl", source), ("b.whl", target), ("c.whl-0123-tmp", source)):
        path = folder / "+files" / "root/pypi/+f/abc/def" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(folder))
    store.mirrored_files.copy_missing("root/pypi", source, target)
    found = {path.name: path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found == {"a.whl": str(source), "b.whl": str(target)}


def test_a_file_that_is_evicted_meanwhile_is_omitted(store, tmp_path):
    for name in ("a.whl", "b.whl"):
        path = tmp_path / "source" / "+files" / "root/pypi" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def evict_and_copy(path, target):
        path.unlink(missing_ok=path.name == "b.whl")
        if path.name == "a.whl":
            raise FileNotFoundError(path)
        target.touch()

    store.mirrored_files.copy_missing("root/pypi", tmp_path / "source", tmp_path / "target", evict_and_copy)
    assert [path.name for path in (tmp_path / "target").rglob("*.whl")] == ["b.whl"]
