# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace attributes of devpi-server where it has no hook, each for a stated reason.

The image's build runs ``python -m devpi_mirror.patches --check``, which fails if devpi-server lacks one of these attributes, or
has changed its parameters.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from tempfile import SpooledTemporaryFile
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

from devpi_server.views import H_PRIMARY_UUID

from . import compat, config
from .archives import LimitedZipFile
from .certificates import ssl_context

# Bytes of a temporary file that devpi holds in memory.
MEMORY_LIMIT = 1_048_576


# Reading the certificate authorities takes 25 ms.
host_context = cache(ssl_context)


class Patch(NamedTuple):
    """A replaced attribute.

    ``target`` is ``module:path``, ``parameters`` are the names of the function's parameters, ``reason`` is why it is replaced,
    ``replace`` returns the new value for the old one, and ``upstream`` is the URL of devpi's issue, if there is one.
    """

    target: str
    parameters: tuple[str, ...]
    reason: str
    replace: Callable[[Any], Any]
    upstream: str = ""


def replace_simple_links(_replaced: Any) -> Callable[[Any, str], Any]:
    def get_simplelinks_perstage(self: Any, project: str) -> Any:
        return self.xom.devpi_mirror.simple_links(self, project)

    return get_simplelinks_perstage


def tolerate_missing_files(recover: Callable[[Any, Iterable[Any]], None]) -> Callable[[Any, Iterable[Any]], None]:
    """Return devpi's crash recovery in a version that reports a missing file and continues."""

    def recover_each(self: Any, infos: Iterable[Any]) -> None:
        for info in infos:
            try:
                recover(self, [info])
            except FileNotFoundError as exc:
                print(f"Crash recovery: {exc}. If it is a mirrored file, it is downloaded again.", file=sys.stderr)
                # On a full disk this fails. All files are then checked at the scheduled time.
                with suppress(OSError):
                    config.SCRUB_REQUESTED.touch()

    return recover_each


def authorize_missing_files(iterate: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Return devpi's download of a missing file from the primary in a version that sends the replica's credentials."""

    def iter_remote_file_replica(stage: Any, entry: Any, url: Any) -> Any:
        # Only the client for the primary is replaced. The file's original location gets no credentials.
        http = stage.xom.replica_thread.file_replication_threads[0].http
        return iterate(SimpleNamespace(xom=stage.xom, http=http), entry, url)

    return iter_remote_file_replica


def open_for_existing(_replaced: Any) -> Callable[[Any, Any], IO[bytes]]:
    """Return devpi's creation of a temporary file in a version that permits that the file exists. It replaces it atomically."""

    def new_open(self: Any, path: Any) -> IO[bytes]:  # noqa: ARG001
        return SpooledTemporaryFile(dir=str(self.basedir), max_size=MEMORY_LIMIT)

    return new_open


def record_texts(add: Callable[[Any, dict[str, Any]], None]) -> Callable[[Any, dict[str, Any]], None]:
    """Return devpi's record of a replication error in a version whose values JSON can represent."""

    def add_texts(self: Any, error: dict[str, Any]) -> None:
        add(self, {name: str(value) for name, value in error.items()})

    return add_texts


def record_storage_errors(replicate: Callable[..., None]) -> Callable[[Any, Any, Any, Any, Any], None]:
    """Return devpi's replication of a file in a version that also records that the file could not be stored."""

    def importer(self: Any, serial: Any, key: Any, val: Any, back_serial: Any) -> None:
        try:
            replicate(self, serial, key, val, back_serial)
        except OSError as exc:
            url = self.xom.config.primary_url.joinpath(key.relpath)
            self.shared_data.errors.add({"url": url, "message": str(exc), "relpath": key.relpath})
            raise

    return importer


def await_serial(keyfs: Any, serial: int) -> bool:
    """Wait for a change for at most REPLICATION_WAIT, and return whether it exists."""
    # devpi's own timeout is shorter the more changes there are meanwhile.
    deadline = time.monotonic() + config.REPLICATION_WAIT
    while not keyfs.wait_tx_serial(serial, timeout=1):
        if time.monotonic() > deadline:
            return False
    return True


def limit_wait(forward: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return devpi's forwarding of a request to the primary in a version that waits for a limited time for the change."""

    def proxy_write_to_primary(xom: Any, request: Any) -> Any:
        keyfs = SimpleNamespace(wait_tx_serial=partial(await_serial, xom.keyfs))
        return forward(SimpleNamespace(config=xom.config, _http=xom._http, keyfs=keyfs), request)

    return proxy_write_to_primary


def is_from_primary(settings: Any, response: Any) -> bool:
    """Return whether a response is that of the primary which a replica has followed so far."""
    uuid = settings.get_primary_uuid()
    return uuid is not None and response.headers.get(H_PRIMARY_UUID) == uuid


def stop_if_ahead(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return devpi's request to the primary in a version that stops the replication if the primary lacks changes."""

    def stream(
        self: Any,
        cstack: Any,
        method: Any,
        url: Any,
        *,
        allow_redirects: Any,
        timeout: Any = None,
        extra_headers: Any = None,
    ) -> Any:
        requested = re.search(r"/\+changelog/(\d+)-", str(url))
        if requested and config.AHEAD_OF_PRIMARY.exists():
            raise RuntimeError("this replica has changes that its primary does not have")
        response = send(
            self, cstack, method, url, allow_redirects=allow_redirects, timeout=timeout, extra_headers=extra_headers
        )
        # So devpi responds to a request for a change after the next one.
        if requested and response.status_code == 404 and is_from_primary(self.config, response):
            config.AHEAD_OF_PRIMARY.touch()
        return response

    return stream


RECOVERY_REASON = (
    "devpi does not start if a file of the last transaction is missing, and a mirrored file can be missing at any time: the "
    "maintenance evicts and quarantines mirrored files, and backups omit them"
)
PATCHES = (
    Patch(
        "devpi_server.httpclient:HTTPClient._ssl_context",
        (),
        "with Python 3.13, a replica refuses a primary whose certificate authority has no key usage",
        lambda _replaced: property(lambda _client: host_context()),
    ),
    Patch(
        "devpi_server.mirror:MirrorStage.get_simplelinks_perstage"
        if compat.MAJOR < 7
        else "devpi_server.model.remote:RemoteIndex.get_simplelinks_perstage",
        ("self", "project"),
        "devpi stores an entry for each link of a page, which takes most of the time of a first installation",
        replace_simple_links,
    ),
    Patch(
        "devpi_server.filestore:ZipFile",
        (),
        "devpi reads the core metadata of an uploaded wheel into memory, however large it is",
        lambda _replaced: LimitedZipFile,
    ),
    Patch(
        "devpi_server.views:iter_remote_file_replica"
        if compat.MAJOR < 7
        else "devpi_server.model.remote:iter_remote_file_replica",
        ("stage", "entry", "url"),
        "a replica requests a file that is not replicated yet without credentials, which an index with acl_read refuses",
        authorize_missing_files,
    ),
    Patch(
        "devpi_server.filestore_fs_base:FSIOFileBase.new_open",
        ("self", "path"),
        "a replica responds with 500 to a request for a file that its replication stores at the same time",
        open_for_existing,
    ),
    Patch(
        "devpi_server.replica:ReplicationErrors.add",
        ("self", "error"),
        "devpi responds to /+status with 500 while a file can't be replicated, as the error contains a URL object",
        record_texts,
    ),
    Patch(
        "devpi_server.replica:FileReplicationThread.importer",
        ("self", "serial", "key", "val", "back_serial"),
        "a file that a replica can't store, as its disk is full, is not in /+status, so the replica seems to be in sync",
        record_storage_errors,
    ),
    Patch(
        "devpi_server.replica:FileReplicationSharedData.ERROR_QUEUE_MAX_DELAY",
        (),
        "a replica whose disk was full stores the missing files up to an hour after there is space",
        lambda _replaced: config.REPLICATION_RETRY,
    ),
    Patch(
        "devpi_server.replica:FileReplicationSharedData.ERROR_QUEUE_REPORT_DELAY",
        (),
        "a replica logs a traceback at each attempt to replicate a file that fails, and /+status lists these files",
        lambda _replaced: float("inf"),
    ),
    Patch(
        "devpi_server.replica:proxy_write_to_primary",
        ("xom", "request"),
        "a log-in or a change at a replica that can't receive changes never ends, although the primary has responded",
        limit_wait,
    ),
    Patch(
        "devpi_server.replica:ReplicaHTTPClient.stream",
        ("self", "cstack", "method", "url", "allow_redirects", "timeout", "extra_headers"),
        "a replica that has changes which its primary lacks, as after a restore, continues as soon as the primary has as many",
        stop_if_ahead,
    ),
    Patch(
        "devpi_server.filestore_fs:FSIOFile._perform_crash_recovery",
        ("self", "infos"),
        RECOVERY_REASON,
        tolerate_missing_files,
    ),
    Patch(
        "devpi_server.filestore_hash_hl:HashHLIOFile._perform_crash_recovery",
        ("self", "infos"),
        RECOVERY_REASON,
        tolerate_missing_files,
    ),
)


def resolve(target: str) -> tuple[Any, str]:
    """Return the object whose attribute the target is, and the name of the attribute. Raises ImportError or AttributeError."""
    module, _colon, path = target.partition(":")
    *parents, name = path.split(".")
    owner = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    getattr(owner, name)
    return owner, name


def find_problem(patch: Patch) -> str:
    """Return why a patch can't be applied to this devpi-server, or an empty string."""
    try:
        owner, name = resolve(patch.target)
    except (ImportError, AttributeError) as exc:
        return f"{patch.target} does not exist ({exc})"
    value = getattr(owner, name)
    if patch.parameters and tuple(inspect.signature(value).parameters) != patch.parameters:
        return f"{patch.target} has the parameters {inspect.signature(value)}"
    return ""


def apply() -> None:
    """Replace the targets."""
    for patch in PATCHES:
        owner, name = resolve(patch.target)
        setattr(owner, name, patch.replace(getattr(owner, name)))


def main() -> int:
    problems = [text for text in map(find_problem, PATCHES) if text]
    for text in problems:
        print(text, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
