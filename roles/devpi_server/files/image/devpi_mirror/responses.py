# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP responses of the plugin: simple pages, files, core metadata and errors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

from pyramid.response import Response  # type: ignore[import-untyped]

from . import config, pages
from .compression import compressed, decompressed
from .downloads import DiskFullError
from .page_cache import Served, one_if_large
from .page_store import tag_of
from .policy import HiddenError
from .rendering import render_html, render_json
from .upstream import UpstreamError

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
LATEST_JSON = "application/vnd.pypi.simple.latest+json"
IMMUTABLE = "max-age=365000000, immutable, public"
METADATA_CACHING = f"max-age={config.METADATA_FRESHNESS}, stale-while-revalidate={config.METADATA_MAX_STALE}"
# Bytes of a stored file that are read at a time.
PIECE = 65_536


def page_response(request: Any, index: str, project: str, served: Served) -> Any:
    """Return a page in the form that the client prefers. Raises UpstreamError."""
    form = accepted_form(request)
    # When nginx revalidates a page, it replaces the headers only together with the page.
    tag = f"{served.tag}-{'json' if form == pages.JSON else 'html'}{'-stale' if served.error else ''}"
    response = Response(vary=["Accept"])
    response.etag = tag
    if served.serial:
        response.headers["X-PyPI-Last-Serial"] = served.serial
    # No stale-if-error: nginx would count the removal of a project as such an error. nginx serves stale pages while devpi is
    # unavailable, and page_cache.py does while the upstream is.
    stale = f", stale-while-revalidate={config.max_stale()}" if served.is_usable_stale else ""
    response.headers["Cache-Control"] = f"max-age={served.fresh_for:.0f}{stale}"
    if served.error:
        response.headers["Warning"] = '110 - "Response is Stale"'
        print(f"The page of {project} in {index} is stale: {served.error}", flush=True)
    if tag in (request.if_none_match or ()):
        response.status = 304
        return response
    if form == pages.JSON:
        body = served.form()
    else:
        with one_if_large(served.size):
            body = compressed(render_html(served.page(), project))
    set_page(request, response, form, body)
    return response


def accepted_form(request: Any) -> str:
    """Return the content type of a page that a client prefers."""
    offers = request.accept.acceptable_offers([pages.TEXT_HTML, pages.HTML, pages.JSON, LATEST_JSON])
    best = offers[0][0] if offers else pages.TEXT_HTML
    return pages.JSON if best == LATEST_JSON else best


def set_page(request: Any, response: Any, form: str, body: bytes) -> None:
    """Set the body of a response to a page, which is compressed with gzip, in the encoding that the client accepts."""
    response.content_type = form
    response.charset = "utf-8" if form == pages.TEXT_HTML else None
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response.content_encoding = "gzip"
        response.body = body
    else:
        # In pieces, as each of many clients can request a large page.
        response.app_iter = decompressed([body])


def merge(own_pages: list[pages.Page], served: list[tuple[str, Served]], size: int, fresh_for: float) -> Served:
    """Return the page of an index that takes a project from itself and from mirror indexes, by name. Raises UpstreamError.

    ``size`` is the bytes of the upstreams' pages.
    """
    mirror_pages = [found.page() for _name, found in served]
    page = pages.merged([*own_pages, *mirror_pages])
    # A list of versions would lack those of an upstream that lists none.
    if not any("versions" in found for found in mirror_pages):
        page.pop("versions", None)
    content = render_json(page)
    errors = [f"{found.error} ({name})" for name, found in served if found.error]
    return Served(
        tag=tag_of(content),
        serial="",
        size=size,
        form=lambda: compressed(content),
        page=lambda: page,
        fresh_for=fresh_for,
        is_usable_stale=bool(fresh_for) and all(found.is_usable_stale for _name, found in served),
        error=", ".join(errors),
    )


def file_response(body: Iterator[bytes] | list[bytes], size: int | None) -> Any:
    """Return a file. ``size`` is its bytes, or None if they are not known."""
    response = Response(content_type="application/octet-stream", app_iter=body)
    response.content_length = size
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = IMMUTABLE
    return response


def stored_response(request: Any, path: Path) -> Any:
    """Return a file on the disk that has no entry in devpi's database."""
    status = path.stat()
    response = file_response([], status.st_size)
    response.headers["Last-Modified"] = formatdate(status.st_mtime, usegmt=True)
    if request.method != "HEAD":
        response.app_iter = read(path)
    return response


def read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece


def requested_range(request: Any, size: int | None) -> tuple[int, int | None]:
    """Return the start and the end of the requested part of a file, as in a slice: (0, None) is the whole file."""
    found = RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if not found or size is None or not any(found.groups()) or "If-Range" in request.headers:
        return 0, None
    first, last = found.groups()
    if not first:
        # The last zero bytes are no part, see RFC 9110.
        return (max(size - int(last), 0), None) if int(last) else (0, None)
    if int(first) >= size or (last and int(last) < int(first)):
        return 0, None
    return int(first), min(int(last) + 1, size) if last else None


def has_current_metadata(request: Any, file: pages.File) -> bool:
    """Return whether the core metadata that a client has cached is what the page lists."""
    if not request.if_none_match:
        return False
    listed = pages.listed_metadata(file)
    if not isinstance(listed, dict):
        # It is read from the wheel, which does not change: its hash is in the URL.
        return True
    digest = listed.get("sha256")
    return bool(digest) and digest in request.if_none_match


def metadata_response(content: bytes, *, is_temporary: bool = False) -> Any:
    """Return the core metadata of a wheel. ``is_temporary`` is whether another upstream, which can have other, will be used."""
    response = Response(body=content, content_type="application/octet-stream")
    response.etag = hashlib.sha256(content).hexdigest()
    response.headers["Cache-Control"] = f"max-age={config.FAILURE_FRESHNESS}" if is_temporary else METADATA_CACHING
    return response


def unchanged_metadata_response() -> Any:
    return Response(status=304, headerlist=[("Cache-Control", METADATA_CACHING)])


def error_response(error: UpstreamError | DiskFullError) -> Any:
    """Return the response to a request that failed, with the reason."""
    if isinstance(error, DiskFullError):
        print(error, flush=True)
        return Response(text=f"{error}\n", status=507, content_type="text/plain")
    response = Response(text=f"{error}\n", status=error.status, content_type="text/plain")
    if isinstance(error, HiddenError):
        # pip shows the status line only.
        response.status = f"403 {error.reason}"
    if error.retry_after:
        response.headers["Retry-After"] = error.retry_after
    if error.status in (404, 410):
        # nginx caches it, so that it replaces a cached page. page_cache.py remembers it for longer.
        response.headers["Cache-Control"] = "max-age=1"
    else:
        print(error, flush=True)
    return response
