# SPDX-License-Identifier: GPL-3.0-or-later
"""Core metadata of wheels (PEP 658): from the upstream if it lists the metadata, and otherwise from the wheel itself.

Installers that get core metadata download only the wheels that they install. The metadata is near the end of a wheel, so only
the end is requested, unless the upstream ignores the Range header.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from contextlib import ExitStack
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

from packaging.utils import canonicalize_name, canonicalize_version

from . import config, pages
from .archives import LimitedZipFile
from .digests import ALGORITHMS
from .downloads import DiskFullError, free_bytes
from .upstream import Upstream, UpstreamError

# Most wheels have their metadata and their central directory in this many bytes at their end.
PART = 65_536
# Bytes of the headers of core metadata, which precede its description.
HEADERS_LIMIT = 256_000
# Bytes of a response that are read at a time.
PIECE = 65_536


def headers_of(metadata: bytes) -> bytes:
    """Return the headers of core metadata, up to a limit, without the description that follows them."""
    return re.split(rb"\n\r?\n|\r\r", metadata[:HEADERS_LIMIT], maxsplit=1)[0]


def is_of_wheel(metadata: bytes, filename: str) -> bool:
    """Return whether core metadata has the name and the version that the file name of a wheel has."""
    found = BytesHeaderParser().parsebytes(headers_of(metadata))
    name, version, *_tags = [*filename.split("-"), ""]
    return (
        canonicalize_name(str(found["Name"])) == canonicalize_name(name)
        # File names have underscores in place of hyphens.
        and canonicalize_version(str(found["Version"]).replace("_", "-"))
        == canonicalize_version(version.replace("_", "-"))
    )


class RemoteFile(io.RawIOBase):
    """A file at the upstream, of which only the parts that are read are requested. Raises UpstreamError."""

    def __init__(self, upstream: Upstream, url: str, size: int, tail: bytes) -> None:
        self.upstream = upstream
        self.url = url
        self.size = size
        self.tail = tail
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(start + offset, 0)
        return self.position

    def readinto(self, buffer: Any) -> int:
        end = min(self.position + len(buffer), self.size)
        if self.position >= end:
            return 0
        tail = self.size - len(self.tail)
        in_tail = self.tail[self.position - tail : end - tail] if self.position >= tail else None
        content = self.request(self.position, end) if in_tail is None else in_tail
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)

    def request(self, start: int, end: int) -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with self.upstream.stream(self.url, headers, is_file=True) as response:
            pieces = self.upstream.pieces_of(response, end - start) if response.status_code == 206 else ()
            content = b"".join(pieces)
        if len(content) != end - start:
            raise UpstreamError("the upstream sends another part of a wheel than was requested")
        return content


def open_wheel(upstream: Upstream, url: str, folder: Path) -> BinaryIO:
    """Open a wheel at the upstream for reading. Raises UpstreamError and DiskFullError."""
    with ExitStack() as opened, upstream.stream(url, {"Range": f"bytes=-{PART}"}, is_file=True) as response:
        if response.status_code == 206:
            tail = b"".join(upstream.pieces_of(response, PART))
            size = response.headers.get("Content-Range", "").rpartition("/")[2]
            if not re.fullmatch(r"\d{1,18}", size, re.ASCII) or int(size) < len(tail):
                raise UpstreamError("the upstream does not send the size of a wheel")
            return io.BufferedReader(RemoteFile(upstream, url, int(size), tail), PART)
        if response.status_code != 200:
            raise UpstreamError(
                f"could not download a part of a wheel: the upstream responded with status {response.status_code}"
            )
        # On the disk, as a wheel can have any size.
        whole = opened.enter_context(tempfile.TemporaryFile(dir=folder))
        for piece in response.iter_raw(PIECE):
            if free_bytes(folder) < len(piece) + config.RESERVE:
                raise DiskFullError("The mirror has no room to read the metadata of a wheel.")
            whole.write(piece)
        opened.pop_all()
        return whole


def read_wheel(stream: BinaryIO) -> bytes:
    """Return the core metadata in a wheel. Raises UpstreamError."""
    try:
        with LimitedZipFile(stream) as wheel:
            for name in wheel.namelist():
                # Packages that are vendored in the wheel have such folders too, at a deeper level.
                if name.count("/") == 1 and name.endswith(".dist-info/METADATA"):
                    return wheel.read(name)
    except TimeoutError as exc:
        raise UpstreamError(str(exc)) from exc
    except BadZipFile as exc:
        raise UpstreamError(f"the wheel is no zip archive that can be read ({exc})", 404) from exc
    raise UpstreamError("the wheel has no metadata", 404)


def read_stored(path: Path) -> bytes | None:
    """Return the core metadata in a wheel on the disk, or None if it has none that can be read."""
    try:
        with path.open("rb") as stream:
            return read_wheel(stream)
    except (OSError, UpstreamError):
        return None


def different_hash(content: bytes, listed: Any) -> str:
    """Return the algorithm of a listed hash that core metadata does not have, or an empty text."""
    for algorithm, digest in listed.items() if isinstance(listed, dict) else ():
        if algorithm in ALGORITHMS and hashlib.new(algorithm, content).hexdigest() != str(digest).lower():
            return str(algorithm)
    return ""


def request_listed(upstream: Upstream, file: pages.File) -> bytes | None:
    """Return the metadata that the upstream's page lists, or None if the upstream does not have it. Raises UpstreamError."""
    try:
        return upstream.get(file["url"] + ".metadata", config.METADATA_LIMIT)
    except UpstreamError as exc:
        # Object stores respond with 403 to requests for missing files.
        if exc.status in (403, 404, 410):
            return None
        raise


def get_core_metadata(upstream: Upstream, file: pages.File, stored: Path, folder: Path = config.TEMPORARY) -> bytes:
    """Return the core metadata of a wheel that the upstream's page lists. Raises UpstreamError and DiskFullError.

    ``stored`` is the path of the wheel once it is cached: then the upstream is not needed.
    """
    listed = pages.listed_metadata(file)
    content = read_stored(stored)
    if content is not None and different_hash(content, listed):
        content = None
    if content is None and listed:
        content = request_listed(upstream, file)
        # Without a hash, it can be a page that the upstream sends in place of missing files.
        if content is not None and not isinstance(listed, dict) and not is_of_wheel(content, file["filename"]):
            content = None
    if content is None:
        with open_wheel(upstream, file["url"], folder) as stream:
            content = read_wheel(stream)
    algorithm = different_hash(content, listed)
    if algorithm:
        raise UpstreamError(
            f"the metadata of {file['filename']} has another {algorithm} than the upstream's page lists"
        )
    # Its name and version can differ from the file name. Installers check that, and choose another release.
    return content
