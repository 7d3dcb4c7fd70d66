# SPDX-License-Identifier: GPL-3.0-or-later
"""Download files of mirror indexes: each file once, streamed to all clients while it grows.

The upstream's response is written to a temporary file, which each client reads at its own pace. A client that disconnects does
not stop the download. If the upstream disconnects, the download is resumed. The last bytes are sent after the size and the
hashes that the upstream's page lists have been verified, so no client gets a complete response with other content.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import httpx
from devpi_server.filestore import DEFAULT_HASH_TYPE

from . import config
from .digests import ALGORITHMS, is_digest
from .links import Link
from .pages import File
from .upstream import Upstream, UpstreamError, name_of

# Bytes of a piece that is sent to a client, and of the end that is held back until the hash is verified if the size is unknown.
PIECE = 65_536
# Disconnections in a row, without a byte between them, after which a download fails.
DISCONNECTIONS = 5
# Stores a complete file, with its digests by algorithm.
Store = Callable[[Path, Mapping[str, str]], None]


class Source(NamedTuple):
    """What the upstream's page lists of a file: its link, its size in bytes or None, and its digests by algorithm."""

    link: Link
    size: int | None = None
    hashes: Mapping[str, Any] = MappingProxyType({})


class Job(NamedTuple):
    """A file to download: its path once it is stored, its source, and the function that stores it when it is complete."""

    stored: Path
    source: Source
    store: Store


class UnusableResponseError(UpstreamError):
    """The upstream sends another file than its page lists, or sends it in another way than was requested."""


class IncompleteError(Exception):
    """A response that has begun can't be completed."""


class DiskFullError(Exception):
    """The disk has no room for a file."""


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the file system that has a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def validators_of(response: httpx.Response) -> dict[str, str]:
    return {name: response.headers[name] for name in ("ETag", "Last-Modified") if name in response.headers}


class Download:
    """A file that is downloaded. ``store`` is called with its path and its digests when it is complete."""

    def __init__(self, source: Source, path: Path, store: Store) -> None:
        self.source = source
        self.path = path
        self.store = store
        self.changed = threading.Condition()
        # Bytes of the file, or None if they are not known, and bytes on the disk.
        self.size: int | None = None
        self.received = 0
        # The ETag and Last-Modified of the first response, if it has them.
        self.validators: dict[str, str] = {}
        self.has_started = self.is_responding = self.is_whole = False
        self.error: UpstreamError | DiskFullError | None = None
        # The digests that the upstream's page lists, and the one that devpi stores with each file.
        self.listed = {algorithm: source.hashes[algorithm] for algorithm in ALGORITHMS if algorithm in source.hashes}
        self.hashes = {algorithm: hashlib.new(algorithm) for algorithm in (*self.listed, DEFAULT_HASH_TYPE)}

    @property
    def name(self) -> str:
        return name_of(self.source.link.url)

    def run(self) -> None:
        """Download the file and store it. Call it once."""
        try:
            self.require_digests()
            with self.create() as self.stream:
                self.receive()
            self.verify()
            self.store(self.path, {algorithm: running.hexdigest() for algorithm, running in self.hashes.items()})
        # The clients wait, so each failure has to be reported to them.
        except Exception as exc:
            error = exc if isinstance(exc, (UpstreamError, DiskFullError)) else UpstreamError(self.description_of(exc))
            self.finish(error)
            print(f"Error: {error}", flush=True)
        else:
            self.finish()
        finally:
            self.path.unlink(missing_ok=True)

    def create(self) -> BinaryIO:
        """Create the temporary file, and open it for the clients, who can read it after it has been removed."""
        # An earlier process with the same ID can have left one, which is a hard link to a stored file.
        self.path.unlink(missing_ok=True)
        stream = self.path.open("xb")
        self.reading = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.reading)
        return stream

    def finish(self, error: UpstreamError | DiskFullError | None = None) -> None:
        with self.changed:
            self.error = error
            self.is_whole = error is None
            self.changed.notify_all()

    def description_of(self, error: Exception) -> str:
        """Return one line about an error. The errors of a database list the stored values in further lines."""
        return self.failure(": ".join([type(error).__name__, *str(error).splitlines()[:1]]))

    def failure(self, reason: str) -> str:
        return f"could not download {self.name}: {reason}"

    def receive(self) -> None:
        """Write the file to the disk, in as many responses as it takes. Raises UpstreamError and DiskFullError."""
        failures = 0
        while True:
            before = self.received
            try:
                self.source.link.request(self.receive_part)
                if self.size is None or self.received >= self.size:
                    return
                raise UpstreamError(self.failure(f"the upstream sent {self.received} of {self.size} bytes"))
            except UpstreamError as exc:
                failures = 0 if self.received > before else failures + 1
                if (
                    not self.is_responding
                    or not self.is_resumable
                    or failures == DISCONNECTIONS
                    or exc.status != 503
                    or isinstance(exc, UnusableResponseError)
                ):
                    raise

    def receive_part(self, upstream: Upstream, file: File) -> None:
        """Write one response to the disk, which continues the file if it has begun. Raises UpstreamError and DiskFullError."""
        headers = {"Range": f"bytes={self.received}-"} if self.received else {}
        # A listed hash is verified at the end. Without one, only the validator shows whether the rest belongs to the same file.
        if self.received and not self.listed:
            headers["If-Range"] = self.validator
        with upstream.stream(file["url"], headers, is_file=True) as response:
            if response.status_code not in (200, 206):
                raise UpstreamError(self.failure(f"the upstream responded with status {response.status_code}"))
            skipped = self.begin(response)
            for piece in response.iter_raw():
                part = piece[skipped:]
                skipped = max(skipped - len(piece), 0)
                if part:
                    self.append(part)

    def begin(self, response: httpx.Response) -> int:
        """Record the size of the file, and return how many bytes of the response are on the disk already."""
        self.require_file(response)
        size = self.size_of(response)
        if self.is_responding and (size != self.size or self.has_other_validators(response)):
            raise UnusableResponseError(self.failure("the file has changed at the upstream"))
        if self.source.size is not None and size is not None and size != self.source.size:
            raise UnusableResponseError(self.failure(f"the file has {size} bytes instead of {self.source.size}"))
        if not self.received:
            self.validators = validators_of(response)
        if not self.is_responding:
            self.require_space(size or 0)
            with self.changed:
                self.size = size
                self.is_responding = True
                self.changed.notify_all()
        return self.received if response.status_code == 200 else 0

    def require_file(self, response: httpx.Response) -> None:
        """Raise UnusableResponseError for a response that is not the file and has no hash that would show it."""
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        # For example the page of a proxy that requires a login.
        if not self.listed and content_type == "text/html":
            raise UnusableResponseError(self.failure("the upstream sends an HTML page instead of a file"))
        # Some upstreams send an archive that is compressed with gzip as an encoding. The hash shows whether it is the file.
        encodings = ("", "identity", "gzip", "x-gzip") if self.listed else ("", "identity")
        if response.headers.get("Content-Encoding", "").lower() not in encodings:
            raise UnusableResponseError(self.failure("the upstream sends an encoding that was not requested"))

    def size_of(self, response: httpx.Response) -> int | None:
        """Return the size of the file in bytes, or None if the response does not have it. Raises UnusableResponseError."""
        if response.status_code != 206:
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != self.received:
            raise UnusableResponseError(self.failure("the upstream sends another part than was requested"))
        return None if found[2] == "*" else int(found[2])

    @property
    def validator(self) -> str:
        """The condition of a resumption (If-Range): a strong ETag, or else Last-Modified, or an empty text."""
        tag, date = self.validators.get("ETag", ""), self.validators.get("Last-Modified", "")
        if re.fullmatch(r'"[!#-~]*"', tag):
            return tag
        return date if re.fullmatch(r"[A-Za-z]{3}, [0-9A-Za-z: ]{1,40}", date) else ""

    @property
    def is_resumable(self) -> bool:
        return bool(not self.received or self.listed or self.validator)

    def has_other_validators(self, response: httpx.Response) -> bool:
        """Return whether a response that continues the file has the ETag or Last-Modified of another one."""
        if not self.received or self.listed:
            return False
        found = validators_of(response)
        # A partial response need not repeat Last-Modified.
        if response.status_code == 200:
            return found != self.validators
        return any(self.validators.get(name, value) != value for name, value in found.items())

    def append(self, piece: bytes) -> None:
        if self.size is None:
            self.require_space(len(piece))
        elif self.received + len(piece) > self.size:
            raise UnusableResponseError(self.failure(f"the upstream sends more than {self.size} bytes"))
        self.stream.write(piece)
        self.stream.flush()
        for running in self.hashes.values():
            running.update(piece)
        with self.changed:
            self.received += len(piece)
            self.changed.notify_all()

    def require_space(self, size: int) -> None:
        """Raise DiskFullError if the disk has no room for ``size`` bytes."""
        free = free_bytes(self.path.parent)
        if free < size + config.RESERVE:
            name = self.name.rpartition("/")[2]
            raise DiskFullError(f"The mirror has no room for {name}: {free // 10**6} MB are free on its disk.")

    def require_digests(self) -> None:
        """Raise UnusableResponseError if the page lists a digest that no file can have."""
        for algorithm, digest in self.listed.items():
            if not is_digest(algorithm, digest):
                raise UnusableResponseError(self.failure(f"the upstream's page lists an invalid {algorithm} digest"))

    def verify(self) -> None:
        if self.source.size is not None and self.received != self.source.size:
            raise UpstreamError(self.failure(f"the file has {self.received} bytes instead of {self.source.size}"))
        for algorithm, listed in self.listed.items():
            digest = self.hashes[algorithm].hexdigest()
            if digest != listed.lower():
                raise UpstreamError(self.failure(f"the file has the {algorithm} {digest} instead of {listed}"))

    def await_progress(self, is_reached: Callable[[], bool], limit: float = math.inf) -> None:
        """Wait until a condition holds, the download ends or ``limit`` seconds have passed. Call it while ``changed`` is held.

        Raises UpstreamError if no byte arrives for too long.
        """
        end = time.monotonic() + limit
        while not (is_reached() or self.is_whole or self.error):
            before, left = self.received, end - time.monotonic()
            if left <= 0:
                return
            has_changed = self.changed.wait(min(left, config.BYTE_TIMEOUT))
            if not has_changed and self.received == before and left > config.BYTE_TIMEOUT:
                raise UpstreamError(self.failure(f"no byte has arrived for {config.BYTE_TIMEOUT:.0f} s"))

    def await_response(self) -> None:
        """Wait until the upstream responds. Raises the download's error, and UpstreamError if no byte arrives for too long."""
        with self.changed:
            self.await_progress(lambda: self.is_responding)
            if self.error:
                raise self.error

    def await_first_byte(self, start: int, limit: float = math.inf) -> bool:
        """Wait up to ``limit`` seconds for the byte at ``start``, and return whether it can be sent.

        Raises the same as ``await_response``.
        """
        with self.changed:
            self.await_progress(lambda: self.sendable > start, limit)
            if self.error and self.sendable <= start:
                raise self.error
            return self.sendable > start

    def await_end(self) -> None:
        """Wait until the file is stored. Raises the same as ``await_response``."""
        with self.changed:
            self.await_progress(lambda: False)
            if self.error:
                raise self.error

    @property
    def sendable(self) -> int:
        """How many bytes may be sent: all but the last ones, until the hash has been verified."""
        if self.is_whole:
            return self.received
        return min(self.received, self.size - 1) if self.size is not None else max(self.received - PIECE, 0)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the file's bytes from ``start`` to before ``end``, as they arrive. Raises IncompleteError."""
        position = start
        while end is None or position < end:
            available = self.await_bytes(position)
            if available <= position:
                return
            wanted = min(available if end is None else min(available, end), position + PIECE) - position
            piece = os.pread(self.reading, wanted, position)
            position += len(piece)
            yield piece

    def await_bytes(self, position: int) -> int:
        """Return the end of the bytes that may be sent. It is ``position`` at the end of the file. Raises IncompleteError."""
        with self.changed:
            if self.sendable > position:
                return self.sendable
            try:
                self.await_progress(lambda: self.sendable > position)
            except UpstreamError as exc:
                raise IncompleteError(str(exc)) from exc
            if self.error and self.sendable <= position:
                raise IncompleteError(str(self.error)) from None
            return self.sendable


class Downloads:
    """The running downloads, by the path of the file once it is stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.running: dict[Path, Download] = {}
        self.pool = ThreadPoolExecutor(config.DOWNLOADS, thread_name_prefix="downloads")
        self.prefetching = ThreadPoolExecutor(config.PREFETCHED_DOWNLOADS, thread_name_prefix="prefetching")
        self.count = 0

    def start_missing(self, job: Job, *, prefetch: bool = False) -> Download | None:
        """Return the download of a file as ``start`` does, or None if the file is stored."""
        # A download that ends after this check is still running for ``start``, as it needs the lock to end.
        with self.lock:
            return None if job.stored.is_file() else self.start(job, prefetch=prefetch)

    def start(self, job: Job, *, prefetch: bool = False) -> Download:
        """Return the running download of a file, or start one, even if the file is stored."""
        with self.lock:
            download = self.running.get(job.stored)
            if download is None or download.error:
                self.count += 1
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                temporary = self.folder / f"{os.getpid()}-{self.count}.part"
                download = self.running[job.stored] = Download(job.source, temporary, job.store)
            elif prefetch or download.has_started:
                return download
        (self.prefetching if prefetch else self.pool).submit(self.run, job.stored, download)
        return download

    def run(self, stored: Path, download: Download) -> None:
        # A prefetched download that a client requests is submitted to both pools.
        with self.lock:
            if download.has_started:
                return
            download.has_started = True
        try:
            download.run()
        finally:
            with self.lock:
                if self.running.get(stored) is download:
                    del self.running[stored]
