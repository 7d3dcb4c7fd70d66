# SPDX-License-Identifier: GPL-3.0-or-later
"""How much the image's archives.py reads of a zip archive."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import threading
import zipfile

import pytest
from devpi_server.filestore import get_core_metadata
from zips import CORRUPT, OWN, metadata_of, with_size, zip_of, zip_with_directory

WHEEL = "alpha-1.0-py3-none-any.whl"


@pytest.fixture
def archives(load):
    return load("archives")


@pytest.fixture
def open_zip(archives):
    return lambda content: archives.LimitedZipFile(io.BytesIO(content))


@pytest.fixture
def read_metadata(archives, monkeypatch):
    """Return devpi's function that reads core metadata, as patches.py has it."""
    monkeypatch.setattr("devpi_server.filestore.ZipFile", archives.LimitedZipFile)
    return get_core_metadata


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_are_read(open_zip, compression):
    content = metadata_of("alpha", "1.0") * 1000
    with open_zip(zip_of(content, compression=compression)) as archive:
        assert archive.namelist() == [OWN]
        assert archive.read(OWN) == archive.read(archive.getinfo(OWN)) == content
        with pytest.raises(KeyError):
            archive.read("other")
    with open_zip(zip_with_directory(5_000_000)) as archive:
        assert len(archive.namelist()) > 50_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_in_an_archive_is_expanded_up_to_a_limit(archives, open_zip, monkeypatch, compression):
    monkeypatch.setattr(archives, "METADATA_LIMIT", 100_000)
    with open_zip(zip_of(bytes(100_000), compression=compression)) as archive:
        assert archive.read(OWN) == bytes(100_000)
    too_large = pytest.raises(zipfile.BadZipFile, match="more than 100000 bytes of metadata")
    with too_large, open_zip(zip_of(bytes(100_001), compression=compression)) as archive:
        archive.read(OWN)


def test_the_limit_of_the_central_directory_does_not_apply_to_files(archives, open_zip):
    content = bytes(archives.DIRECTORY_LIMIT + 1)
    with open_zip(zip_of(content, compression=zipfile.ZIP_STORED)) as archive:
        assert archive.read(OWN) == content


@pytest.mark.parametrize("size", [0, 10, 0x7FFFFFFF])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_with_a_wrong_size_of_a_file_is_corrupt(archives, open_zip, monkeypatch, compression, size):
    monkeypatch.setattr(archives, "METADATA_LIMIT", 100_000)
    content = with_size(zip_of(bytes(50_000_000), compression=compression), size)
    with open_zip(content) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read(OWN)


@pytest.mark.parametrize("comment", [b"", b"comment"])
def test_an_archive_with_a_large_directory_is_refused_before_it_is_read(archives, open_zip, comment):
    archive = bytearray(zip_with_directory(archives.DIRECTORY_LIMIT))
    archive[-2:] = struct.pack("<H", len(comment))
    with pytest.raises(zipfile.BadZipFile, match="more than 10000000 bytes of central directory"):
        open_zip(bytes(archive) + comment)


def test_an_archive_with_a_large_directory_of_zip64_is_refused(archives, open_zip):
    archive = zip_with_directory(archives.DIRECTORY_LIMIT)[:-22]
    start = archive.index(b"PK\1\2")
    end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(archive) - start, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(archive), 1)
    record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(zipfile.BadZipFile, match="more than 10000000 bytes of central directory"):
        open_zip(archive + end + locator + record)


def test_refusing_a_large_directory_takes_little_memory(archives):
    """zipfile reads it in one piece, so nothing of it must be read."""
    seen = []

    class Recorded(io.BytesIO):
        def read(self, size=-1):
            seen.append(size)
            return super().read(size)

    with pytest.raises(zipfile.BadZipFile):
        archives.LimitedZipFile(Recorded(zip_with_directory(40_000_000)))
    assert max(seen) <= archives.DIRECTORY_LIMIT


def test_one_archive_with_a_large_directory_is_open_at_a_time(archives, open_zip, monkeypatch):
    monkeypatch.setattr(archives, "LARGE_WAIT", 0.01)
    large, small = zip_with_directory(archives.LARGE_DIRECTORY), zip_with_directory(archives.LARGE_DIRECTORY // 2)
    for _time in range(2):
        with open_zip(large), open_zip(small), pytest.raises(TimeoutError):
            open_zip(large)
    with open_zip(small), open_zip(small), open_zip(large) as archive:
        assert len(archive.namelist()) > 5000
    # The exception holds no references to the content.
    assert archive.namelist() == []


def test_an_archive_with_a_large_directory_waits_for_another_one(archives, open_zip):
    large = zip_with_directory(archives.LARGE_DIRECTORY)
    opened = []
    with open_zip(large):
        thread = threading.Thread(target=lambda: opened.append(open_zip(large)))
        thread.start()
        thread.join(0.2)
        assert opened == []
    thread.join(30)
    opened.pop().close()
    assert not archives.LARGE.locked()


def test_a_large_corrupt_directory_releases_the_lock(archives, open_zip):
    content = bytearray(zip_with_directory(archives.LARGE_DIRECTORY))
    start = content.index(b"PK\1\2")
    content[start : start + 2] = b"xx"
    with pytest.raises(zipfile.BadZipFile):
        open_zip(bytes(content))
    assert not archives.LARGE.locked()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_types_are_refused(open_zip, monkeypatch, compression):
    archive = zip_of(bytes(1000), compression=compression)

    def expand(*_arguments):
        raise AssertionError("it is expanded")

    monkeypatch.setattr(bz2, "BZ2Decompressor", expand)
    monkeypatch.setattr(lzma, "LZMADecompressor", expand)
    with open_zip(archive) as opened, pytest.raises(zipfile.BadZipFile, match="compression type"):
        opened.read(OWN)


@pytest.mark.parametrize("content", CORRUPT)
def test_a_corrupt_stored_wheel_has_no_metadata(read_metadata, content):
    assert read_metadata(content, "alpha", "1.0", basename=WHEEL) is None


def zip_of_two(*names: str) -> bytes:
    """Return an archive whose first file has the metadata of a vendored package."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, metadata_of("alpha" if name == OWN else "vendored", "1.0"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (zip_of(metadata_of("alpha", "1.0")), metadata_of("alpha", "1.0")),
        (zip_of_two("alpha/_vendor/METADATA", OWN), metadata_of("alpha", "1.0")),
        (zip_of(bytes(100_000_000)), None),
        (b"no archive", None),
    ],
)
def test_metadata_of_a_stored_wheel_is_read_from_it(read_metadata, content, found):
    assert read_metadata(io.BytesIO(content), "alpha", "1.0", basename=WHEEL) == found
