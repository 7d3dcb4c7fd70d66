"""Read wheels of which anybody can be the author: no more of one is read and expanded than fits into memory."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from contextlib import ExitStack, suppress
from email.parser import BytesHeaderParser
from typing import Any, BinaryIO

from packaging.utils import canonicalize_name, canonicalize_version

# Bytes of core metadata, which the mirror has in memory.
METADATA_LIMIT = 16_000_000
# Bytes of a wheel's central directory. That of 200,000 files takes up to 100 MB of memory.
DIRECTORY_LIMIT = 10_000_000
# Bytes of the headers of core metadata, which precede its description.
HEADERS_LIMIT = 256_000
# What zipfile and zlib raise, besides BadZipFile, for archives that are corrupt, encrypted or of an unknown kind.
CORRUPT = (zlib.error, EOFError, RuntimeError, ValueError, OverflowError)


class LimitedReader:
    """A file of which no more than ``left`` bytes can be read, unless that is None. Raises BadZipFile."""

    def __init__(self, stream: Any, left: int) -> None:
        self.stream = stream
        self.left: int | None = left

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("an offset before the start of the file")
        return int(self.stream.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        if self.left is None:
            return bytes(self.stream.read(size))
        if size > self.left:
            raise zipfile.BadZipFile(f"more than {DIRECTORY_LIMIT} bytes of central directory")
        content = bytes(self.stream.read(self.left if size < 0 else size))
        self.left -= len(content)
        return content


class LimitedZipFile(zipfile.ZipFile):
    """A zip archive of which devpi reads core metadata, which must not fill the memory. Raises BadZipFile if it is corrupt."""

    def __init__(self, file: Any, *arguments: Any, **options: Any) -> None:
        self.opened = ExitStack()
        # zipfile closes a file that it has opened itself, and no other.
        stream = file if hasattr(file, "read") else self.opened.enter_context(io.FileIO(file))
        reader = LimitedReader(stream, DIRECTORY_LIMIT)
        try:
            super().__init__(reader, *arguments, **options)
        except CORRUPT as exc:
            raise zipfile.BadZipFile(str(exc)) from exc
        reader.left = None

    def close(self) -> None:
        super().close()
        self.opened.close()

    def open(self, name: Any, *arguments: Any, **options: Any) -> Any:
        info = name if isinstance(name, zipfile.ZipInfo) else self.getinfo(name)
        # Python expands bzip2 and LZMA without a limit. Wheels have neither.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"{info.filename} has the compression type {info.compress_type}")
        return super().open(info, *arguments, **options)

    def read(self, name: Any, pwd: bytes | None = None) -> bytes:
        try:
            with self.open(name, pwd=pwd) as member:
                content: bytes = member.read(METADATA_LIMIT + 1)
        except CORRUPT as exc:
            raise zipfile.BadZipFile(str(exc)) from exc
        if len(content) > METADATA_LIMIT:
            raise zipfile.BadZipFile(f"more than {METADATA_LIMIT} bytes of metadata in {self.filename}")
        return content


def headers_of(metadata: bytes) -> bytes:
    """Return the headers of core metadata, up to a limit, without the description that follows them."""
    return re.split(rb"\n\r?\n|\r\r", metadata[:HEADERS_LIMIT], maxsplit=1)[0]


def is_of_wheel(metadata: bytes, wheel: str) -> bool:
    """Return whether core metadata has the name and the version that the file name of a wheel has."""
    found = BytesHeaderParser().parsebytes(headers_of(metadata))
    name, version, *_tags = [*wheel.split("-"), ""]
    return (
        canonicalize_name(str(found["Name"])) == canonicalize_name(name)
        # A file name has an underscore for each hyphen.
        and canonicalize_version(str(found["Version"]).replace("_", "-"))
        == canonicalize_version(version.replace("_", "-"))
    )


def read_wheel(stream: BinaryIO) -> bytes | None:
    """Return the core metadata in a wheel, or None if it has none. Raises BadZipFile."""
    with LimitedZipFile(stream) as wheel:
        for name in wheel.namelist():
            # Packages inside of the package have such folders too, further down.
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA"):
                return wheel.read(name)
    return None


def get_core_metadata(content_or_file: Any, project: str, version: str, basename: str | None = None) -> bytes | None:
    """Return the core metadata of a wheel that devpi has, or None if it is corrupt or that of another package or version."""
    stream = io.BytesIO(content_or_file) if isinstance(content_or_file, bytes) else content_or_file
    with suppress(zipfile.BadZipFile):
        content = read_wheel(stream)
        if content is not None and is_of_wheel(content, basename or f"{project}-{version}"):
            return content
    stream.seek(0)
    return None
