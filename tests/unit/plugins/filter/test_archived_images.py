# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
import tarfile

import pytest
from ansible_collections.devpi.mirror.plugins.filter.archived_images import FilterModule

archived_images = FilterModule().filters()["archived_images"]


@pytest.fixture
def archive(tmp_path):
    """Return a function that creates an archive with one layer and these bytes as its manifest."""

    def write(manifest, mode="w"):
        path = tmp_path / "devpi.tar"
        with tarfile.open(path, mode) as tar:
            for name, content in (("0f3c/layer.tar", b"x" * 9000), ("manifest.json", manifest)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_names_of_all_images(archive, mode):
    manifest = [{"RepoTags": ["devpi-mirror:1", "devpi-mirror:2"]}, {"RepoTags": None}, {"RepoTags": ["other:3"]}]
    path = archive(json.dumps(manifest).encode(), mode)
    assert archived_images(str(path)) == ["devpi-mirror:1", "devpi-mirror:2", "other:3"]


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"[{}]", b"[1]", b"1", b"\xff", b'{"RepoTags": ["a:1"]}'])
def test_invalid_manifest(archive, manifest):
    assert archived_images(str(archive(manifest))) == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_truncated_archive(archive, mode):
    path = archive(b'[{"RepoTags": ["devpi-mirror:1"]}]', mode)
    for size in (0, 10, path.stat().st_size // 3):
        path.write_bytes(path.read_bytes()[:size])
        assert archived_images(str(path)) == []


def test_other_files(tmp_path):
    (tmp_path / "text").write_text("not an archive")
    for path in (tmp_path / "text", tmp_path / "missing", tmp_path, ""):
        assert archived_images(str(path)) == []
