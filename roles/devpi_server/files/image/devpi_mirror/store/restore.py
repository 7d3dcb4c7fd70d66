# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup in two steps, and undo that.

``restore`` stages a backup beside the data directory. The next start activates it, before devpi runs, and keeps the previous
data as ``replaced``. ``undo`` stages the previous data in the same way.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import time
from pathlib import Path

from .. import devpi_api
from ..config import DATA, SERVERDIR
from . import database
from .archive import Manifest, unpack
from .backup import SECRETS
from .errors import DataError, ForceRequiredError
from .mirrored_files import link_missing

INCOMING = DATA / "incoming"
REPLACED = DATA / "replaced"


def describe_loss(manifest: Manifest) -> str:
    """Return which data a backup would discard, or an empty text."""
    try:
        current = database.describe(SERVERDIR)
    except DataError:
        return ""
    if current["uuid"] == manifest["uuid"]:
        # Mirrored pages and files change the database too, and can't be distinguished from other changes.
        is_newer = current["serial"] > manifest["serial"]
        return f"the data directory has changed since (serial {current['serial']})" if is_newer else ""
    try:
        users = devpi_api.send("GET", "/")["result"]
    except (OSError, ValueError):
        return "the data directory is of another mirror, whose users and indexes are unknown, as devpi does not respond"
    own = sorted(
        set(users) - {"root"} | {f"root/{name}" for name in users["root"].get("indexes", {}) if name != "pypi"}
    )
    return f"the data directory is of another mirror, which has {', '.join(own)}" if own else ""


def has_same_files(backup: Path) -> bool:
    """Return whether this mirror has the files and the secrets of a backup, byte for byte."""
    files = [path for path in (backup / "server" / "+files").rglob("*") if path.is_file()]
    files += [backup / name for name in SECRETS if (backup / name).exists()]
    try:
        return all(filecmp.cmp(path, DATA / path.relative_to(backup), shallow=False) for path in files)
    except OSError:
        # It is missing, was evicted meanwhile, or can't be read: the restore solves that.
        return False


def equals_current(backup: Path, manifest: Manifest) -> bool:
    """Return whether the data directory already has the state of an unpacked backup, and is undamaged."""
    try:
        current = database.describe(SERVERDIR)
    except DataError:
        return False
    is_same = current == {name: manifest[name] for name in current}
    return is_same and database.is_intact(SERVERDIR) and has_same_files(backup)


def adapt_to_replica(unpacked: Path, manifest: Manifest) -> None:
    """If this mirror is a replica, make a backup of its primary that of the replica, which continues from its serial.

    Raises DataError for the backup of another mirror.
    """
    try:
        own = json.loads((SERVERDIR / ".nodeinfo").read_text())
    except (OSError, ValueError):
        return
    if own.get("role") != "replica":
        return
    info = unpacked / "server" / ".nodeinfo"
    found = json.loads(info.read_text())
    primary = found.get("primary-uuid") if found.get("role") == "replica" else found["uuid"]
    # A replica that has received nothing yet does not know its primary.
    if own.get("primary-uuid", primary) != primary:
        raise DataError("this mirror is a replica, and the backup is not one of its primary")
    info.write_text(json.dumps({**own, "primary-uuid": primary}))
    manifest["uuid"] = own["uuid"]
    # It is that of the primary, to which a replica forwards log-ins.
    (unpacked / "root-password").unlink(missing_ok=True)


def restore(force: bool) -> bool:
    """Stage the backup from standard input, for the next start. Returns False if the data directory already equals it.

    Raises DataError, and ForceRequiredError if data would be discarded without ``force``.
    """
    unpacked = DATA / "incoming.new"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(mode=0o700)
    try:
        manifest = unpack(unpacked)
        adapt_to_replica(unpacked, manifest)
        if not force and equals_current(unpacked, manifest):
            return False
        loss = describe_loss(manifest)
        if loss and not force:
            made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest["made"]))
            raise ForceRequiredError(f"the backup was created at {made} (serial {manifest['serial']}), and {loss}")
        # Mirrored files that exist need not be downloaded again.
        for index in manifest["mirrors"]:
            link_missing(index, SERVERDIR, unpacked / "server")
        shutil.rmtree(REPLACED, ignore_errors=True)
        (unpacked / "manifest.json").unlink()
        unpacked.rename(INCOMING)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return True


def undo() -> None:
    """Discard the staged data if it was not activated yet, or else stage the previous data, for the next start.

    Raises DataError if there is neither.
    """
    if INCOMING.exists():
        shutil.rmtree(INCOMING)
    elif REPLACED.exists():
        REPLACED.rename(INCOMING)
    else:
        raise DataError("no data was replaced")


def activate() -> None:
    """Replace the data directory with the staged data, while devpi does not run. After a crash, the next call completes it."""
    if not INCOMING.exists():
        return
    REPLACED.mkdir(mode=0o700, exist_ok=True)
    for path in sorted(INCOMING.iterdir()):
        current = DATA / path.name
        if current.exists():
            current.rename(REPLACED / path.name)
        path.rename(current)
    INCOMING.rmdir()
    print(f"Activated the staged data. The previous data is in {REPLACED}.", flush=True)
