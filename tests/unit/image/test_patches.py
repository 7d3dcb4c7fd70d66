# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes of devpi-server that patches.py replaces, in the installed devpi-server."""

from __future__ import annotations

import errno
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from devpi_common.url import URL
from devpi_server import filestore, filestore_fs, filestore_hash_hl, replica
from devpi_server.keyfs_types import FilePathInfo
from zips import zip_of

IMAGE = Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "image"
STORAGES = [filestore_fs.FSIOFile, filestore_hash_hl.HashHLIOFile]


@pytest.fixture
def patches(load, monkeypatch, tmp_path):
    """The module, whose replacements are undone after the test."""
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    module = load("patches")
    for patch in module.PATCHES:
        owner, name = module.resolve(patch.target)
        monkeypatch.setattr(owner, name, getattr(owner, name))
    return module


def test_devpi_has_all_targets(patches):
    assert [patches.find_problem(patch) for patch in patches.PATCHES] == [""] * len(patches.PATCHES)
    assert patches.main() == 0


def test_all_targets_are_replaced(patches):
    before = [getattr(*patches.resolve(patch.target)) for patch in patches.PATCHES]
    patches.apply()
    after = [getattr(*patches.resolve(patch.target)) for patch in patches.PATCHES]
    assert all(new is not old for new, old in zip(after, before, strict=True))
    # devpi's commands call them with the same parameters.
    for patch, new in zip(patches.PATCHES, after, strict=True):
        assert not patch.parameters or tuple(inspect.signature(new).parameters) == patch.parameters


@pytest.mark.parametrize(
    ("target", "parameters", "reason"),
    [
        ("devpi_server.nothing:Filestore", (), "does not exist"),
        ("devpi_server.filestore:Nothing", (), "does not exist"),
        ("devpi_server.filestore:FileStore.nothing", (), "does not exist"),
        ("devpi_server.filestore_fs:FSIOFile._perform_crash_recovery", ("self",), "has the parameters (self, infos"),
    ],
)
def test_a_changed_target_is_a_problem(patches, monkeypatch, capsys, target, parameters, reason):
    patch = patches.Patch(target, parameters, "", lambda replaced: replaced)
    assert patches.find_problem(patch).startswith(f"{target} {reason}")
    monkeypatch.setattr(patches, "PATCHES", (patch,))
    assert patches.main() == 1
    assert capsys.readouterr().err.startswith(target)


def test_the_check_of_the_image_build_passes():
    command = [sys.executable, "-m", "devpi_mirror.patches", "--check"]
    environ = {**os.environ, "PYTHONPATH": str(IMAGE)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def infos_of(*names: str) -> list[tuple]:
    """Return devpi's description of the files that a crash recovery handles."""
    return [
        (f"+files/alice/{name}-0123-tmp", f"alice/{name}", FilePathInfo(f"alice/{name}", "01" * 32), False)
        for name in names
    ]


@pytest.mark.parametrize("storage", STORAGES)
def test_each_missing_file_is_reported(patches, storage, tmp_path, capsys):
    folder = tmp_path / "+files" / "alice"
    folder.mkdir(parents=True)
    (folder / "existing.whl").touch()
    # As after a crash: devpi moves it.
    (folder / "staged.whl-0123-tmp").touch()
    patches.apply()
    storage(tmp_path, {})._perform_crash_recovery(infos_of("lost.whl", "existing.whl", "staged.whl", "missing.whl"))
    assert patches.config.SCRUB_REQUESTED.exists()
    reports = capsys.readouterr().err.splitlines()
    assert len(reports) == 2
    for report, name in zip(reports, ("lost.whl", "missing.whl"), strict=True):
        assert f"alice/{name}. If it is a mirrored file, it is downloaded again." in report
    assert (folder / "staged.whl").exists()


@pytest.mark.parametrize("storage", STORAGES)
def test_a_recovery_without_missing_files_requests_no_check(patches, storage, tmp_path, capsys):
    (tmp_path / "+files" / "alice").mkdir(parents=True)
    (tmp_path / "+files" / "alice" / "existing.whl").touch()
    patches.apply()
    storage(tmp_path, {})._perform_crash_recovery(infos_of("existing.whl"))
    assert not patches.config.SCRUB_REQUESTED.exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("storage", STORAGES)
def test_a_check_that_can_not_be_requested_does_not_stop_the_recovery(patches, monkeypatch, storage, tmp_path):
    monkeypatch.setattr(patches.config, "SCRUB_REQUESTED", tmp_path / "absent" / "scrub-requested")
    (tmp_path / "+files" / "alice").mkdir(parents=True)
    patches.apply()
    storage(tmp_path, {})._perform_crash_recovery(infos_of("lost.whl"))


def test_a_file_that_another_thread_has_stored_can_be_stored(patches, tmp_path):
    storage = filestore_fs.FSIOFile
    info = FilePathInfo("alice/existing.whl", "01" * 32)
    patches.apply()
    for content in (b"the file", b"the file"):
        stored = storage(tmp_path, {})
        with stored, stored.new_open(info) as stream:
            stream.write(content)
            stored.set_content(info, stream)
            stored.commit()
    with storage(tmp_path, {}).open_read(info) as stream:
        assert stream.read() == b"the file"


def test_other_errors_of_a_recovery_are_raised(patches):
    def fail(_self, _infos):
        raise PermissionError

    with pytest.raises(PermissionError):
        patches.tolerate_missing_files(fail)(None, infos_of("lost.whl"))


def test_metadata_that_expands_to_too_much_is_not_read(patches):
    bomb = zip_of(bytes(100_000_000))
    patches.apply()
    assert filestore.get_core_metadata(bomb, "alpha", "1.0") is None


class FullStorage:
    """A replica's thread that can't store files, and the errors that it records."""

    def __init__(self):
        self.xom = SimpleNamespace(config=SimpleNamespace(primary_url=URL("https://primary.example")))
        self.shared_data = SimpleNamespace(errors=replica.ReplicationErrors())


def test_a_file_that_can_not_be_stored_is_recorded(patches, monkeypatch):
    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(replica.FileReplicationThread, "importer", fail)
    patches.apply()
    thread, key = FullStorage(), SimpleNamespace(relpath="ada/secret/+f/012/file.whl")
    with pytest.raises(OSError, match="No space"):
        replica.FileReplicationThread.importer(thread, 1, key, {}, 0)
    (error,) = thread.shared_data.errors.errors.values()
    assert error == {
        "url": "https://primary.example/ada/secret/+f/012/file.whl",
        "message": "[Errno 28] No space left on device",
        "relpath": key.relpath,
    }


def test_a_forwarded_change_is_awaited_for_a_limited_time(patches, monkeypatch):
    def wait(serial, timeout):
        # As devpi, which wakes up earlier if there are other changes.
        times[0] += timeout / 4
        return serial <= 7 and times[0] >= 5

    def wait_seconds(serial):
        times[0] = 0
        received = replica.proxy_write_to_primary(xom, serial)
        return received, times[0]

    times = [0.0]
    xom = SimpleNamespace(keyfs=SimpleNamespace(wait_tx_serial=wait), config=None, _http=None)
    monkeypatch.setattr(replica, "proxy_write_to_primary", lambda xom, request: xom.keyfs.wait_tx_serial(request))
    monkeypatch.setattr(patches.time, "monotonic", lambda: times[0])
    patches.apply()
    assert wait_seconds(7) == (True, 5)
    assert wait_seconds(8) == (False, pytest.approx(patches.config.REPLICATION_WAIT, abs=1))
