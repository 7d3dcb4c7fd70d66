# SPDX-License-Identifier: GPL-3.0-or-later
"""Read untrusted zip archives, with limits for the memory that they take."""

from __future__ import annotations

import io
import threading
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from .config import DIRECTORY_LIMIT, METADATA_LIMIT

# Bytes of a large central directory. One archive with a large one is open at a time, as it takes ten times as much memory, and
# others wait for this many seconds.
LARGE_DIRECTORY = 500_000
LARGE_WAIT = 50.0
LARGE = threading.Lock()
# Exceptions of zipfile and zlib, besides BadZipFile, for corrupt, encrypted and unsupported archives.
CORRUPT = (zlib.error, EOFError, RuntimeError, ValueError, OverflowError)


class LimitedReader:
    """A file of which at most ``left`` bytes can be read, or all if it is None. Raises BadZipFile.

    ``before_large`` is called before zipfile reads a large central directory, which it does in one piece.
    """

    def __init__(self, stream: Any, left: int, before_large: Callable[[], None]) -> None:
        self.stream = stream
        self.left: int | None = left
        self.before_large = before_large

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
        if size > LARGE_DIRECTORY:
            self.before_large()
        content = bytes(self.stream.read(self.left if size < 0 else size))
        self.left -= len(content)
        return content


class LimitedZipFile(zipfile.ZipFile):
    """A zip archive in a stream, from which core metadata is read. Raises BadZipFile if it is corrupt or exceeds a limit.

    Raises TimeoutError if it has a large central directory and other such archives are open for too long.
    """

    has_lock = False

    def __init__(self, stream: Any, *arguments: Any, **options: Any) -> None:
        reader = LimitedReader(stream, DIRECTORY_LIMIT, self.lock)
        with ExitStack() as failed:
            failed.callback(self.unlock)
            try:
                super().__init__(reader, *arguments, **options)
            except CORRUPT as exc:
                raise zipfile.BadZipFile(str(exc)) from exc
            failed.pop_all()
        reader.left = None

    def lock(self) -> None:
        if not LARGE.acquire(timeout=LARGE_WAIT):
            raise TimeoutError("the mirror is reading other archives with a large central directory")
        self.has_lock = True

    def unlock(self) -> None:
        """Free the memory of a large central directory, and allow the next one to be read."""
        if self.has_lock:
            self.has_lock = False
            self.filelist.clear()
            self.NameToInfo.clear()
            LARGE.release()

    def close(self) -> None:
        super().close()
        self.unlock()

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
