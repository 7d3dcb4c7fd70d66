"""devpi opens a data directory that lacks a file, or that has a hostile one, with the image's recovery.py."""

from __future__ import annotations

import pytest
from devpi_server import filestore, filestore_fs, filestore_hash_hl
from devpi_server.keyfs_types import FilePathInfo
from zips import zip_of


@pytest.fixture
def recovery(load, monkeypatch):
    for storage in (filestore_fs.FSIOFile, filestore_hash_hl.HashHLIOFile):
        monkeypatch.setattr(storage, "_perform_crash_recovery", storage._perform_crash_recovery)
    monkeypatch.setattr(filestore, "get_core_metadata", filestore.get_core_metadata)
    return load("recovery")


@pytest.mark.parametrize("storage", [filestore_fs.FSIOFile, filestore_hash_hl.HashHLIOFile])
def test_each_missing_file_is_reported(recovery, storage, tmp_path, capsys):
    folder = tmp_path / "+files" / "alice"
    folder.mkdir(parents=True)
    (folder / "existing.whl").touch()
    # As after a crash: devpi moves it.
    (folder / "staged.whl-0123-tmp").touch()
    reported = []
    recovery.install(lambda: reported.append(True))
    operations = [
        (f"+files/alice/{name}-0123-tmp", f"alice/{name}", FilePathInfo(f"alice/{name}", "01" * 32), False)
        for name in ("lost.whl", "existing.whl", "staged.whl")
    ]
    storage(tmp_path, {})._perform_crash_recovery(operations)
    assert reported == [True]
    assert "alice/lost.whl. If it is a mirrored file, it is downloaded again." in capsys.readouterr().err
    assert (folder / "staged.whl").exists()


def test_a_command_can_leave_out_the_report(recovery, tmp_path):
    recovery.install()
    operations = [("+files/alice/lost.whl-0123-tmp", "alice/lost.whl", None, False)]
    filestore_fs.FSIOFile(tmp_path, {})._perform_crash_recovery(operations)


def test_a_command_reads_no_metadata_that_expands_to_too_much(recovery):
    bomb = zip_of(bytes(100_000_000))
    recovery.install()
    assert filestore.get_core_metadata(bomb, "alpha", "1.0") is None
