# SPDX-License-Identifier: GPL-3.0-or-later
"""Export and import users, indexes and files that are not mirrored, for compaction and for the upgrade of devpi."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..config import DATA, MIRROR_TYPES, PAGES, PROMOTION, SERVERDIR, TEMPORARY
from . import commands
from .backup import SECRETS
from .mirrored_files import copy_missing

# The hash of a random password that was not stored.
UNKNOWN_PASSWORD = "$argon2id$v=19$m=65536,t=3,p=4$LWVsrbU2xpgTQogxxtj7vw$HiXggbwvbm71u2t7gIRKvumGOJkacyG5doxwujQYgvo"  # noqa: S105


def export(server: Path, folder: Path) -> None:
    """Export what is not mirrored of a data directory into a folder, with hard links. Raises DataError."""
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--serverdir", str(server), "--hard-links"]
    commands.run("devpi-export failed", dict(os.environ), "devpi-export", *options, str(folder))
    replace_missing_passwords(folder)


def replace_missing_passwords(folder: Path) -> None:
    """Give users without a password an unknown one in an export: devpi-import would let them log in with an empty one."""
    path = folder / "dataindex.json"
    found = json.loads(path.read_text())
    for user in found["users"].values():
        user["pwhash"] = user.get("pwhash") or UNKNOWN_PASSWORD
    path.write_text(json.dumps(found))


def link_export(source: Path, folder: Path) -> None:
    """Create a folder with links to an export, which can be read-only, and with replaced passwords.

    An earlier release of this package, which did not replace them, may have created the export.
    """
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != "dataindex.json":
            (folder / path.name).symlink_to(path)
    shutil.copy(source / "dataindex.json", folder)
    replace_missing_passwords(folder)


def read_export(folder: Path) -> dict[str, Any]:
    """Return the users, indexes, releases and hashes of files in an export, in a form that can be compared with another."""
    found = json.loads((folder / "dataindex.json").read_text())
    for index in found["indexes"].values():
        for file in index.get("files", []):
            file["entrymapping"] = {"hashes": file.get("entrymapping", {}).get("hashes")}
        index.get("files", []).sort(key=lambda file: str(file["relpath"]))
    return {"users": found["users"], "indexes": found["indexes"]}


def exported_mirrors(folder: Path) -> list[str]:
    """Return the mirror indexes in an export of any devpi release, as ``user/index``."""
    indexes = json.loads((folder / "dataindex.json").read_text())["indexes"]
    return [name for name, index in indexes.items() if index["indexconfig"]["type"] in MIRROR_TYPES]


def import_earlier(earlier: Path) -> None:
    """Fill this container's empty volume from the volume of an earlier release, which has an export. Raises DataError."""
    from ..entrypoint import set_default_options

    for name in SECRETS:
        shutil.copy2(earlier / name, DATA / name)
    if (earlier / PROMOTION.name).exists():
        # A former primary must not be accepted as a later one.
        shutil.copy2(earlier / PROMOTION.name, PROMOTION)
    environ = dict(os.environ)
    set_default_options(environ)
    folder = TEMPORARY / "export"
    link_export(earlier / "export", folder)
    commands.run("devpi-import failed", environ, "devpi-import", "--no-events", str(folder))
    shutil.rmtree(folder)
    if (earlier / PAGES.name).exists():
        shutil.copytree(earlier / PAGES.name, PAGES)
    for index in exported_mirrors(earlier / "export"):
        copy_missing(index, earlier / SERVERDIR.name, SERVERDIR)
