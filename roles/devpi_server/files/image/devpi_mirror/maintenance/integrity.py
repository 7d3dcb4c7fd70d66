# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare files with their hashes, quarantine damaged mirrored files, and download them again."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from .. import devpi_api, nginx
from ..config import BIN, DATA, FILES, SCRUB_REQUESTED, SERVERDIR
from . import data_directory
from .data_directory import FILE_PATH, is_intact
from .limits import time_limit
from .state import State

QUARANTINE = DATA / "damaged"
# How many damaged files are retained for inspection.
MAX_QUARANTINED = 5
FSCK = [str(BIN / "devpi-fsck"), "--serverdir", str(SERVERDIR)]


def quarantine(state: State, names: Iterable[str], mirrors: set[str]) -> None:
    """Quarantine damaged files of mirror indexes, and download them again.

    Those of other indexes stay, as they can't be downloaded again.
    """
    for name in names:
        is_mirrored = FILE_PATH.fullmatch(name)[1] in mirrors  # type: ignore[index]
        state["damaged"] = [item for item in state["damaged"] if item["file"] != name][-19:]
        state["damaged"].append({"file": name, "found": time.time(), "is_downloadable": is_mirrored})
        consequence = "it is downloaded again" if is_mirrored else "it can only be restored from a backup"
        print(f"DAMAGED: {name}: {consequence}", flush=True)
        if not is_mirrored:
            continue
        QUARANTINE.mkdir(mode=0o700, exist_ok=True)
        # It can have been evicted meanwhile.
        with suppress(FileNotFoundError):
            (FILES / name).replace(QUARANTINE / name.replace("/", "_"))
        for old in sorted(QUARANTINE.iterdir(), key=lambda path: path.stat().st_ctime)[:-MAX_QUARANTINED]:
            old.unlink()
        # nginx keeps files open, and would continue to send this one.
        nginx.reload()
        with suppress(OSError, ValueError):
            devpi_api.send("GET", "/" + name, limit=600)


def check_used(state: State, used: Iterable[str]) -> None:
    """Compare the files that clients downloaded with their hashes, and quarantine damaged ones.

    If devpi is unavailable, the next run checks them too.
    """
    state["unchecked"] = sorted({*state["unchecked"], *used})
    damaged = [name for name in state["unchecked"] if not is_intact(name)]
    if damaged:
        quarantine(state, damaged, data_directory.mirror_indexes())
    state["unchecked"] = []


def is_scrub_due(state: State) -> bool:
    if SCRUB_REQUESTED.exists():
        return True
    every = time_limit("SCRUB_EVERY")
    return bool(every) and time.time() - (state["scrub"]["at"] if state["scrub"] else state["since"]) > every


class Fsck(NamedTuple):
    """The result of devpi-fsck: how many files the database has, and the paths of missing private and of damaged files.

    ``error`` is the end of its output if it has failed, or an empty text.
    """

    files: int
    lost: set[str]
    damaged: set[str]
    error: str


def run_fsck() -> Fsck:
    done = subprocess.run(FSCK, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    total = re.search(r"Finished with a total of (\d+) files", output)
    return Fsck(
        files=int(total[1]) if total else 0,
        # It reports a missing mirrored file, which is downloaded again, as a warning and not as an error.
        lost={found[1] for found in re.finditer(r"ERR\w*\W+(?:\[.*?\] )?Missing file (\S+)", output)},
        damaged={found[0] for found in re.finditer(FILE_PATH.pattern + r"(?= - )", output)},
        error="" if total else output.strip()[-300:],
    )


def lost_files() -> list[str]:
    """Return the private files that are missing or damaged. Raises OSError if the check fails."""
    fsck = run_fsck()
    if fsck.error:
        raise OSError(f"devpi-fsck failed: {fsck.error}")
    mirrors = data_directory.mirror_indexes() if fsck.damaged else set()
    damaged = {name for name in fsck.damaged if FILE_PATH.fullmatch(name)[1] not in mirrors}  # type: ignore[index]
    return sorted(fsck.lost | damaged)


def scrub(state: State) -> None:
    """Compare all files with their hashes: devpi-fsck checks those in devpi's database, and this the other mirrored ones."""
    # First, so that nothing that devpi-fsck finds is lost if devpi is unavailable.
    mirrors = data_directory.mirror_indexes()
    fsck = run_fsck()
    # A file that the upgrade to a new release has copied has no entry in the database until it is downloaded again.
    mirrored = {file.path for file in data_directory.list_files(mirrors)}
    damaged = {name for name in fsck.damaged | mirrored if not is_intact(name)}
    state["scrub"] = {
        "at": time.time(),
        "files": max(fsck.files, len(mirrored)),
        "damaged": len(damaged),
        "lost": sorted(fsck.lost)[:20],
        "error": fsck.error,
    }
    quarantine(state, sorted(damaged), mirrors)
    SCRUB_REQUESTED.unlink(missing_ok=True)
