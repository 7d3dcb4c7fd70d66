# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import io
import tarfile

import pytest
from ansible_collections.devpi.mirror.plugins.filter import image_context as plugin
from ansible_collections.devpi.mirror.plugins.filter.image_context import image_files

filters = plugin.FilterModule().filters()
image_context, image_hash = filters["image_context"], filters["image_hash"]
FILES = {
    "Dockerfile": "FROM x\n",
    "requirements-6.txt": "devpi-server==6\n",
    "requirements-7.txt": "devpi-server==7\n",
    "devpi_mirror/plugin.py": "",
    "devpi_mirror/store/backup.py": "",
}
CACHES = (
    "devpi_mirror/__pycache__/plugin.cpython-311.pyc",
    "devpi_mirror/store/__pycache__/backup.cpython-311.pyc",
    "devpi_mirror/plugin.pyc",
    ".mypy_cache/3.11/cache.json",
    "devpi_mirror/.plugin.py.swp",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Use a folder with a few files in place of the image's."""
    folder = tmp_path / "image"
    for name, text in FILES.items():
        write(folder / name, text)
    monkeypatch.setattr(plugin, "FOLDER", folder)
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_files_in_all_folders_but_those_of_other_releases():
    shared = ["Dockerfile", "devpi_mirror/plugin.py", "devpi_mirror/store/backup.py"]
    assert image_files("6") == [*shared, "requirements-6.txt"]
    assert image_files("7") == [*shared, "requirements-7.txt"]


def test_the_context_has_all_files_with_fixed_attributes(folder):
    (folder / "Dockerfile").chmod(0o600)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(image_context("6")))) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == image_files("6")
        assert {(member.mode, member.uid, member.mtime) for member in members} == {(0o644, 0, plugin.MODIFIED)}
        assert archive.extractfile("Dockerfile").read() == b"FROM x\n"


def test_caches_change_nothing(folder):
    files, digest = image_files("6"), image_hash("6", "base")
    for name in CACHES:
        write(folder / name, "x")
    assert (image_files("6"), image_hash("6", "base")) == (files, digest)


def test_the_path_of_the_collection_changes_nothing(folder, monkeypatch):
    digest = image_hash("6")
    moved = folder.rename(folder.parent / ".ansible")
    monkeypatch.setattr(plugin, "FOLDER", moved)
    assert image_hash("6") == digest


@pytest.mark.parametrize("name", sorted(set(FILES) - {"requirements-7.txt"}))
def test_each_file_changes_the_hash(folder, name):
    digest = image_hash("6")
    write(folder / name, "changed\n")
    assert image_hash("6") != digest


def test_the_file_of_another_release_does_not_change_the_hash(folder):
    digest = image_hash("6")
    write(folder / "requirements-7.txt", "changed\n")
    assert image_hash("6") == digest
    assert image_hash("7") != digest


def test_a_new_name_changes_the_hash(folder):
    digest = image_hash("6")
    (folder / "devpi_mirror" / "plugin.py").rename(folder / "devpi_mirror" / "hooks.py")
    assert image_hash("6") != digest


def test_further_inputs_change_the_hash():
    hashes = {image_hash("6", *inputs) for inputs in [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a", 53141)]}
    assert len(hashes) == 6
    assert image_hash("6", 53141) == image_hash("6", "53141")
    assert {len(digest) for digest in hashes} == {16}


def test_the_folder_of_the_role_has_the_files(monkeypatch):
    monkeypatch.undo()
    assert {"Dockerfile", "devpi_mirror/plugin.py", "nginx.conf", "requirements-6.txt"} <= set(image_files("6"))
