# SPDX-License-Identifier: GPL-3.0-or-later
"""Simple pages of mirror indexes: a page is the upstream's with other links, and nothing else changed.

A page is the JSON object of the simple repository API (PEP 691) with absolute URLs. All fields are preserved, including
unknown ones. parsing.py parses the upstream's page, listing.py replaces its links, rendering.py renders it.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from packaging.utils import canonicalize_name

from .digests import is_digest

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
TEXT_HTML = "text/html"
# The name of the meta element that has the status of a project in HTML.
STATUS = "pypi:project-status"
# The strictness of each status of a project. "active" and unknown statuses have 0.
STRICTNESS = {"deprecated": 1, "archived": 1, "quarantined": 2}

Page = dict[str, Any]
File = dict[str, Any]


class PageError(ValueError):
    """The upstream's response is no simple page. The message describes why."""


def hash_of(file: File) -> tuple[str, str]:
    """Return the algorithm and the digest that a file's path is made of, in lower case, or empty texts."""
    hashes = file.get("hashes")
    if not isinstance(hashes, dict) or not hashes:
        return "", ""
    algorithm = "sha256" if hashes.get("sha256") else "md5" if hashes.get("md5") else next(iter(hashes))
    digest = hashes[algorithm]
    return (algorithm, digest.lower()) if is_digest(algorithm, digest) else ("", "")


def path_of(file: File) -> str:
    """Return the path of a file below its index, as devpi names it: it does not change if the upstream moves the file."""
    _algorithm, digest = hash_of(file)
    if digest:
        return f"+f/{digest[:3]}/{digest[3:16]}/{file['filename']}"
    parts = urlsplit(file["url"])
    # Without the credentials of the URL, as clients get the path.
    host = parts.netloc.rpartition("@")[2]
    folder = "_".join([parts.scheme, host, *parts.path.strip("/").split("/")[:-1]])
    return f"+e/{unquote(re.sub('[^a-zA-Z0-9_.-]', '_', folder))}/{file['filename']}"


def listed_metadata(file: File) -> Any:
    """Return what a page lists of the core metadata of a file: true or its hashes, or a false value if it is not listed."""
    return file.get("core-metadata") or file.get("dist-info-metadata")


def link_to(path: str) -> str:
    """Return a link to a path of this mirror from the page of a project of any index."""
    return quote(f"../../../../{path}", safe="/+!~")


def merged(found: list[Page]) -> Page:
    """Return the page of an index that takes a project from several indexes.

    It has the first of several files with the same name, the versions of all pages, the strictest status, and the other fields
    of the last page.
    """
    files: dict[str, File] = {}
    versions: dict[str, None] = {}
    merged_page: Page = {}
    for page in found:
        for file in page["files"]:
            files.setdefault(file["filename"], file)
        # A list of other types than texts is no error.
        listed = page.get("versions")
        versions |= dict.fromkeys(map(str, listed if isinstance(listed, list) else ()))
        fields = dict(page)
        for key, value in merged_page.items():
            if key == "meta" and isinstance(value, dict) and isinstance(page.get(key), dict):
                fields[key] = {**value, **page[key]}
            elif key not in page or (key == "project-status" and strictness(value) > strictness(page[key])):
                fields[key] = value
        merged_page = fields
    return {**merged_page, **({"versions": list(versions)} if versions else {}), "files": list(files.values())}


def strictness(status: Any) -> int:
    """Return a number that is higher for a stricter status of a project, and -1 if there is none."""
    return STRICTNESS.get(str(status.get("status")), 0) if isinstance(status, dict) else -1


def linked_path(link: str, index: str) -> str:
    """Return the path below ``index`` of the file that a link of ``localize`` leads to."""
    path = unquote(link.removeprefix(link_to(f"{index}/")))
    return f"+{path[1:]}" if path.startswith("-f/") else path


def empty(name: str) -> Page:
    return {"meta": {"api-version": "1.0"}, "name": canonicalize_name(name), "files": []}
