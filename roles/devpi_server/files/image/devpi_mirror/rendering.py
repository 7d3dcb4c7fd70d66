# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a simple page as JSON or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

import orjson

from .pages import STATUS, File, Page, PageError, hash_of

# Keys of a file that have no attribute in HTML, and keys that can be a part of the name of one.
WITHOUT_ATTRIBUTE = ("filename", "url", "hashes", "size", "upload-time", "dist-info-metadata")
ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def render_json(page: Page) -> bytes:
    """Return a page as JSON. Raises PageError if it is nested too deeply: orjson reads deeper objects than it writes."""
    try:
        return orjson.dumps(page)
    except TypeError as exc:
        raise PageError(f"the page can't be written as JSON ({exc})") from exc


def attributes_of(file: File) -> Iterator[tuple[str, str]]:
    """Yield the attributes that a file's link has in HTML."""
    for key, value in file.items():
        if key in WITHOUT_ATTRIBUTE or value is None or (value is False and key != "gpg-sig"):
            continue
        if key == "yanked":
            yield "data-yanked", value if isinstance(value, str) else ""
        elif key == "core-metadata":
            text = (
                next((f"{name}={digest}" for name, digest in value.items()), "true")
                if isinstance(value, dict)
                else "true"
            )
            yield "data-core-metadata", text
            # The name that pip before 23.2.1 and other clients know.
            yield "data-dist-info-metadata", text
        elif isinstance(value, (bool, str)) and ATTRIBUTE_NAME.fullmatch(key):
            yield f"data-{key}", value if isinstance(value, str) else str(value).lower()


def metas_of(page: Page) -> Iterator[tuple[str, str]]:
    """Yield the names and contents of the meta elements that a page has in HTML."""
    meta = page.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    yield "pypi:repository-version", str(meta.get("api-version", "1.0"))
    status = page.get("project-status")
    if isinstance(status, dict):
        yield STATUS, str(status.get("status", ""))
        if status.get("reason"):
            yield f"{STATUS}-reason", str(status["reason"])
    for name, values in (("tracks", meta.get("tracks")), ("alternate-locations", page.get("alternate-locations"))):
        for value in values if isinstance(values, list) else ():
            yield f"pypi:{name}", str(value)


def render_html(page: Page, name: str) -> bytes:
    """Return a page as HTML. ``name`` is the project's."""
    title = escape(f"Links for {name}")
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += [f'<meta name="{escape(key)}" content="{escape(text)}">' for key, text in metas_of(page)]
    lines += [f"<title>{title}</title>", "</head>", "<body>", f"<h1>{title}</h1>"]
    for file in page["files"]:
        algorithm, digest = hash_of(file)
        url = file["url"] + (f"#{algorithm}={digest}" if digest else "")
        attributes = "".join(f' {key}="{escape(text)}"' for key, text in attributes_of(file))
        lines.append(f'<a href="{escape(url)}"{attributes}>{escape(file["filename"])}</a><br>')
    return "\n".join([*lines, "</body>", "</html>", ""]).encode()
