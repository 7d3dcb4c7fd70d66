# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read wheels and source distributions, and build the form that uploads them.

Private to the collection.
"""

from __future__ import annotations

import email
import hashlib
import os
import re
import secrets
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any, Iterator

# The formats of names in the PyPA specifications for wheels and source distributions.
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?)-(?P<version>[0-9][A-Za-z0-9_.!+]*)(?:-[0-9][A-Za-z0-9_.]*)?"
    r"-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+\.whl"
)
_SDIST = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)-(?P<version>[0-9][A-Za-z0-9_.!+]*)\.(?:tar\.gz|zip)"
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][A-Za-z0-9_.!+-]*")
# The fields of metadata that devpi stores, with their names in a form.
_FIELDS = {
    "Metadata-Version": "metadata_version",
    "Summary": "summary",
    "Home-page": "home_page",
    "Author": "author",
    "Author-email": "author_email",
    "Maintainer": "maintainer",
    "Maintainer-email": "maintainer_email",
    "License": "license",
    "License-Expression": "license_expression",
    "License-File": "license_file",
    "Keywords": "keywords",
    "Platform": "platform",
    "Supported-Platform": "supported_platform",
    "Classifier": "classifiers",
    "Download-URL": "download_url",
    "Project-URL": "project_urls",
    "Requires": "requires",
    "Provides": "provides",
    "Obsoletes": "obsoletes",
    "Requires-Dist": "requires_dist",
    "Provides-Dist": "provides_dist",
    "Obsoletes-Dist": "obsoletes_dist",
    "Requires-External": "requires_external",
    "Requires-Python": "requires_python",
    "Provides-Extra": "provides_extras",
    "Description-Content-Type": "description_content_type",
    "Dynamic": "dynamic",
}
_METADATA_LIMIT = 1 << 24
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Distribution:
    """A wheel or a source distribution. ``fields`` are those of its metadata, with their names in a form."""

    path: str
    filename: str
    name: str
    version: str
    sha256: str
    size: int
    fields: list[tuple[str, str]] = field(default_factory=list)

    @property
    def project(self) -> str:
        return normalized(self.name)


def normalized(name: str) -> str:
    """Return the normalized name of a project. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of a project: use letters, digits and the characters ._-")
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: str) -> Distribution:
    """Return the distribution in a file. Raises ValueError with the reason, without the path, if it is not valid."""
    filename = os.path.basename(path)
    match = _WHEEL.fullmatch(filename) or _SDIST.fullmatch(filename)
    if match is None:
        raise ValueError(
            "its name is not that of a wheel or of a source distribution, such as foo-1.0-py3-none-any.whl or foo-1.0.tar.gz"
        )
    try:
        sha256, size = _digest(path)
        metadata = _metadata(path)
    except OSError as exc:
        raise ValueError(exc.strerror or str(exc)) from exc
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as exc:
        raise ValueError(f"it is damaged, or not the archive that its name promises: {exc}") from exc
    message = email.message_from_string(metadata)
    name = str(message.get("Name", "")).strip()
    version = str(message.get("Version", "")).strip()
    if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
        raise ValueError(f"its metadata has the invalid name {name!r} or version {version!r}")
    # devpi rejects a file whose name does not contain the version. Older tools replaced other characters in names of wheels.
    if normalized(name) != normalized(match.group("name")) or match.group("version") not in (
        version,
        re.sub(r"[^A-Za-z0-9_.]+", "_", version),
    ):
        raise ValueError(f"its name does not match its metadata, which is that of {name} {version}: build it again")
    return Distribution(path, filename, name, version, sha256, size, _fields(message))


def form(distribution: Distribution) -> tuple[Iterator[bytes], int, str]:
    """Return the form that uploads a distribution: its chunks, its size and its content type."""
    fields = [
        (":action", "file_upload"),
        ("name", distribution.name),
        ("version", distribution.version),
        *distribution.fields,
    ]
    boundary = secrets.token_hex(16)
    head = _encoded(fields, boundary) + (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{distribution.filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def chunks() -> Iterator[bytes]:
        yield head
        yield from _chunks(distribution.path)
        yield tail

    return chunks(), len(head) + distribution.size + len(tail), f"multipart/form-data; boundary={boundary}"


def probe_form(project: str) -> tuple[Iterator[bytes], int, str]:
    """Return a form that changes nothing, and that devpi accepts as far as its action if the user may upload a project."""
    boundary = secrets.token_hex(16)
    body = _encoded([(":action", "check"), ("name", project)], boundary) + f"--{boundary}--\r\n".encode("ascii")
    return iter([body]), len(body), f"multipart/form-data; boundary={boundary}"


def _encoded(fields: list[tuple[str, str]], boundary: str) -> bytes:
    return "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields
    ).encode("utf-8")


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while True:
            chunk = stream.read(_CHUNK)
            if not chunk:
                return
            yield chunk


def _digest(path: str) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _fields(message: Any) -> list[tuple[str, str]]:
    found = [(_FIELDS[header], value) for header in _FIELDS for value in message.get_all(header, [])]
    # Older metadata has the description as a field.
    description = message.get_payload() or message.get("Description")
    if isinstance(description, str) and description:
        found.append(("description", description))
    return found


def _metadata(path: str) -> str:
    """Return the metadata of a wheel or a source distribution. Raises ValueError, and the errors of zipfile and tarfile."""
    name = "METADATA" if path.endswith(".whl") else "PKG-INFO"
    found = _first_member(path, re.compile(r"[^/]+\.dist-info/METADATA" if name == "METADATA" else r"[^/]+/PKG-INFO"))
    if found is None:
        raise ValueError(f"it has no {name}")
    if len(found) > _METADATA_LIMIT:
        raise ValueError(f"its metadata is larger than {_METADATA_LIMIT:,} bytes")
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError(f"its metadata is not UTF-8: {exc}") from exc


def _first_member(path: str, pattern: re.Pattern[str]) -> bytes | None:
    """Return the start of the first file whose name matches."""
    if path.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                stream = tar.extractfile(member) if pattern.fullmatch(member.name) and member.isfile() else None
                if stream is not None:
                    return stream.read(_METADATA_LIMIT + 1)
        return None
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if pattern.fullmatch(name):
                with archive.open(name) as member_stream:
                    return member_stream.read(_METADATA_LIMIT + 1)
    return None
