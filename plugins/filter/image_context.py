# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters image_context and image_hash. Their documentation is in image_context.yml and image_hash.yml."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any, Callable

FOLDER = Path(__file__).parents[2] / "roles" / "devpi_server" / "files" / "image"
HASH_LENGTH = 16
# In seconds. The build creates a wheel, which can have no time before 1980.
MODIFIED = 1_000_000_000


def is_cache(path: Path) -> bool:
    """Return whether tools have written a file, such as Python its bytecode."""
    return path.suffix == ".pyc" or any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def image_files(release: str) -> list[str]:
    """Return the paths of the files that an image with this release of devpi-server is built from, sorted."""
    paths = (path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file())
    requirements = f"requirements-{release}.txt"
    return sorted(
        path.as_posix()
        for path in paths
        if not is_cache(path) and (path.name == requirements or not path.match("requirements-*.txt"))
    )


def image_context(release: str) -> str:
    """Return the files that an image is built from as a compressed tar archive, encoded as Base64."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in image_files(release):
            content = (FOLDER / name).read_bytes()
            # Owner, mode and time do not depend on the controller's files.
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = MODIFIED
            archive.addfile(member, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def image_hash(release: str, *inputs: Any) -> str:
    """Return a hash of the files of an image, and of the further inputs of its build."""
    digest = hashlib.sha256()
    # The length of each part separates it from the next one.
    parts = [str(value).encode() for value in inputs]
    for name in image_files(release):
        parts += [name.encode(), (FOLDER / name).read_bytes()]
    for part in parts:
        digest.update(b"%d:%s" % (len(part), part))
    return digest.hexdigest()[:HASH_LENGTH]


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"image_context": image_context, "image_hash": image_hash}
