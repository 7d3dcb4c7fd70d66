# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter archived_images. Its documentation is in archived_images.yml."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from typing import Any, Callable, Dict, List

MANIFEST = "manifest.json"
# What the libraries raise for a path that can't be read, an archive that is damaged, and a manifest that is none.
ERRORS = (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, ValueError, LookupError, TypeError)


def manifest(path: str) -> Any:
    """Return the manifest of an archive of images, or an empty list if it has none."""
    with tarfile.open(path) as archive:
        # Not by name, which would read the archive to its end.
        for member in archive:
            found = archive.extractfile(member) if member.name == MANIFEST else None
            if found is not None:
                return json.load(found)
    return []


def archived_images(path: str) -> List[str]:
    """Return the names of the images in an archive that ``docker save`` has written, none if it is no such archive."""
    try:
        return [str(name) for image in manifest(path) for name in image["RepoTags"] or []]
    except ERRORS:
        return []


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> Dict[str, Callable[[str], List[str]]]:
        return {"archived_images": archived_images}
