"""Run one of devpi's commands on a data directory that lacks a file or has a hostile one: recovery.py COMMAND [ARGUMENT...]

When devpi opens its data directory, it completes the file operations of the last transaction, and ends if a file of that
transaction does not exist. A mirrored file can be missing at any time, as the cache evicts and quarantines files and backups
leave them out, and devpi downloads it again when it is requested. devpi-fsck reports a missing file of another index.

devpi reads the core metadata of any wheel that a user has uploaded, when it is requested or imported, however large it is.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any, Callable, Iterable

from archives import get_core_metadata
from devpi_server import filestore, filestore_fs, filestore_hash_hl

Recovery = Callable[[Any, Iterable[Any]], None]


def tolerate(complete: Recovery, report: Callable[[], None]) -> Recovery:
    """Return devpi's recovery as one that reports a missing file, and goes on with the next."""

    def complete_each(self: Any, operations: Iterable[Any]) -> None:
        for operation in operations:
            try:
                complete(self, [operation])
            except FileNotFoundError as exc:
                print(
                    f"The last change has a {exc}. If it is a mirrored file, it is downloaded again.", file=sys.stderr
                )
                report()

    return complete_each


def install(report: Callable[[], None] = lambda: None) -> None:
    """Have devpi open data directories that lack files, and call ``report`` for each, and limit what it reads of wheels."""
    filestore.get_core_metadata = get_core_metadata
    for storage in (filestore_fs.FSIOFile, filestore_hash_hl.HashHLIOFile):
        storage._perform_crash_recovery = tolerate(storage._perform_crash_recovery, report)


if __name__ == "__main__":
    install()
    command, *sys.argv[1:] = sys.argv[1:]
    sys.argv[0] = command
    (program,) = entry_points(group="console_scripts", name=command)
    sys.exit(program.load()())
