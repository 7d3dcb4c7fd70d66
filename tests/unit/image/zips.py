# SPDX-License-Identifier: GPL-3.0-or-later
"""Zip archives for tests."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

OWN = "alpha-1.0.dist-info/METADATA"


def metadata_of(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()


def zip_of(content: bytes, name: str = OWN, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def zip_with_directory(size: int) -> bytes:
    """Return an archive whose central directory has at least ``size`` bytes."""
    archive = zip_of(metadata_of("alpha", "1.0"))
    start = archive.index(b"PK\1\2")
    end = archive.index(b"PK\5\6")
    entry = archive[start:end]
    count = size // len(entry) + 1
    record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(entry), start, 0)
    return archive[:start] + entry * count + record


def with_size(archive: bytes, size: int) -> bytes:
    """Return an archive of one file with another uncompressed size in both of its headers."""
    start = archive.index(b"PK\1\2")
    size_field = struct.pack("<L", size)
    archive = archive[: start + 24] + size_field + archive[start + 28 :]
    return archive[:22] + size_field + archive[26:]


def damaged(compression: int) -> bytes:
    archive = bytearray(zip_of(metadata_of("alpha", "1.0") * 100, compression=compression))
    start = 30 + len(OWN)
    archive[start : start + 40] = b"\xff" * 40
    return bytes(archive)


CORRUPT = [
    pytest.param(damaged(zipfile.ZIP_DEFLATED), id="deflate"),
    pytest.param(damaged(zipfile.ZIP_BZIP2), id="bzip2"),
    pytest.param(damaged(zipfile.ZIP_LZMA), id="lzma"),
    pytest.param(zip_of(b"", OWN + "\u00e9").replace(b"\xc3\xa9", b"\xff\xff"), id="file name"),
    pytest.param(zip_of(b"a" * 9, compression=zipfile.ZIP_STORED).replace(b"a" * 9, b"b" * 9), id="checksum"),
    pytest.param(zip_of(b"a").replace(b"PK\1\2\x14\x03\x14", b"PK\1\2\x14\x03\xff"), id="version"),
    pytest.param(zip_of(b"a").replace(b"PK\1\2\x14\x03\x14\0\0", b"PK\1\2\x14\x03\x14\0\1"), id="encrypted"),
    pytest.param(zip_of(b"a").replace(b"PK\3\4", b"PK\0\0"), id="local header"),
    pytest.param(zip_of(b"a")[:-30], id="truncated"),
    pytest.param(zip_of(b"a")[:-6] + struct.pack("<LH", 10**6, 0), id="offset"),
]
