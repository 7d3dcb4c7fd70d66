# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter archived_images. Its documentation is in archived_images.yml."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from typing import Any, Callable

MANIFEST = "manifest.json"
# The exceptions for a path that can't be read, a damaged archive, and an invalid manifest.
ERRORS = (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, ValueError, LookupError, TypeError)


def manifest(path: str) -> Any:
    """Return the manifest of an image archive, or an empty list if it has none."""
    with tarfile.open(path) as archive:
        # Not by name, which would read the whole archive.
        for member in archive:
            found = archive.extractfile(member) if member.name == MANIFEST else None
            if found is not None:
                return json.load(found)
    return []


def archived_images(path: str) -> list[str]:
    """Return the names of the images in an archive of ``docker save``, or an empty list if it is not such an archive."""
    try:
        return [str(name) for image in manifest(path) for name in image["RepoTags"] or []]
    except ERRORS:
        return []


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[[str], list[str]]]:
        return {"archived_images": archived_images}
