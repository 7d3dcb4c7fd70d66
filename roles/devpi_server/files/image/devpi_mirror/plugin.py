"""The plugin of devpi-server that serves simple pages, files and core metadata of mirror indexes.

devpi still decides who may read what, which indexes there are and what private ones have. Of a mirror index it knows the files
that were downloaded.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from devpi_common.metadata import splitbasename
from packaging.utils import canonicalize_name
from pluggy import HookimplMarker
from pyramid.response import Response  # type: ignore[import-untyped]

from . import compat, config, pages, patches
from .compression import compressed, decompressed
from .core_metadata import get_core_metadata
from .credentials import split_credentials
from .downloads import Download, Downloads, Job, NoRoom, Source
from .flights import Flights
from .page_cache import PageCache, Served, one_if_large
from .page_store import tag_of
from .prefetch import INSTALLERS, Prefetcher, Unrequested, likely_wheel
from .store.file_entry import store_file
from .upstream import Upstream, UpstreamError

hookimpl = HookimplMarker("devpiserver")
T = TypeVar("T")

PAGE = re.compile(r"/(?P<index>[^/+]+/[^/+]+)/\+simple/(?P<project>[^/]+)(?P<slash>/?)")
FILE = re.compile(
    r"/(?P<index>[^/+]+/[^/+]+)/(?P<path>(?:[+-]f/[0-9a-f]{3}/[0-9a-f]{13}|\+e/[^/]+)/[^/\x00-\x1f\x7f]+?)(?P<metadata>\.metadata)?"
)
# What users write instead of the URL of an index: PyPI's, or one without the plus sign.
GUESSED = re.compile(rf"(?P<index>/{config.INDEX})?/simple/(?:[^/]+/?)?|/simple")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
# Projects whose page is searched for one file: the name of an archive of sources does not say where its version begins.
PROJECTS = 4
# Seconds that a client waits for metadata, for which the upstream may have to send a whole wheel.
METADATA_WAIT = 60.0
# Seconds that a client waits for the part of a file that is being downloaded. pip gives up after 15 s without a byte.
PART_WAIT = 10.0
# Answers of the upstream to a request for a file whose link can be outdated: signed ones expire, and files are moved.
OUTDATED = (401, 403, 404, 410)
LATEST_JSON = "application/vnd.pypi.simple.latest+json"
IMMUTABLE = "max-age=365000000, immutable, public"
# An upstream can correct core metadata. Until it is confirmed again, that which is cached is served.
METADATA_CACHING = "max-age=86400, stale-while-revalidate=31536000"


class Mirror(NamedTuple):
    """A mirror index: its name, as ``user/index``, and what it has of its upstream."""

    name: str
    upstream: Upstream
    cache: PageCache
    metadata: Flights[bytes]
    prefetcher: Prefetcher

    def stored(self, path: str) -> Path:
        """Return where a file of the index is once it is stored."""
        return config.FILES / self.name / path


@hookimpl
def devpiserver_pyramid_configure(config: Any, pyramid_config: Any) -> None:
    transaction = "devpi_server.views.tween_keyfs_transaction"
    logging = "devpi_server.views.tween_request_logging"
    access = "devpi_mirror.access.tween_factory"
    pyramid_config.add_tween(access, under=logging, over=transaction)
    pyramid_config.add_tween("devpi_mirror.push.tween_factory", under=access, over=transaction)
    pyramid_config.add_tween("devpi_mirror.plugin.tween_factory", under=transaction)


# devpi loads this module in the server and in all of its commands.
patches.apply()


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    service = registry["xom"].devpi_mirror = Service(registry["xom"])

    def tween(request: Any) -> Any:
        response = service.respond(request)
        return handler(request) if response is None else response

    return tween


class Service:
    """Responds to requests for what mirror indexes have."""

    def __init__(self, xom: Any) -> None:
        self.xom = xom
        self.mirrors: dict[tuple[str, str], Mirror] = {}
        self.lock = threading.Lock()
        self.downloads = Downloads(config.TEMPORARY)
        self.unrequested = Unrequested()

    def respond(self, request: Any) -> Any:
        """Return the response to a request, or None if it is devpi's to respond."""
        if request.method not in ("GET", "HEAD"):
            return None
        path = request.path_info
        found = PAGE.fullmatch(path)
        if found:
            return self.respond_with_page(request, found)
        found = FILE.fullmatch(path)
        if found:
            return self.respond_with_file(request, found)
        found = GUESSED.fullmatch(path)
        return self.respond_to_guess(request, found) if found else None

    def respond_to_guess(self, request: Any, found: re.Match[str]) -> Any:
        """Return the URL of the index that a client seems to mean, unless a user or a project has this name."""
        if not found["index"] and self.xom.model.get_user("simple") is not None:
            return None
        url = f"{request.scheme}://{request.host}/{config.INDEX}/+simple/"
        return failure(UpstreamError(f"This is not the URL of an index. The index has the URL {url}", 404))

    def simple_links(self, stage: Any, project: str) -> Any:
        """Return the links of a project of a mirror index for devpi, which raises what devpi expects."""
        mirror = self.mirror_of(stage.name)
        try:
            if mirror is None:
                raise UpstreamError(f"{stage.name} is no mirror index")
            project = canonicalize_name(project)
            served = mirror.cache.get(project)
            with one_if_large(served.size):
                return compat.simple_links(stage, project, served.page())
        except UpstreamError as exc:
            error = stage.UpstreamNotFoundError if exc.status in (404, 410) else stage.UpstreamError
            raise error(str(exc)) from exc

    def mirror_of(self, name: str) -> Mirror | None:
        """Return the mirror index of a name, or None if there is no such index or it is no mirror."""
        stage = self.xom.model.getstage(name)
        if stage is None or not compat.is_mirror(stage):
            return None
        url = compat.mirror_url(stage)
        with self.lock:
            mirror = self.mirrors.get((name, url))
            if mirror is None:
                mirror = self.mirrors[name, url] = self.make_mirror(name, url)
            return mirror

    def make_mirror(self, name: str, url: str) -> Mirror:
        credentials = split_credentials(url)
        # Those of the public index are in no database, see config.py.
        own = split_credentials(os.environ.get("DEVPI_MIRROR_UPSTREAM_URL", ""))
        if name == config.INDEX and own.url.rstrip("/") == credentials.url.rstrip("/"):
            credentials = own
        upstream = Upstream(credentials.url, credentials.authorization)
        cache = PageCache(upstream, name, config.PAGES, float(config.freshness()))
        metadata: Flights[bytes] = Flights(config.METADATA_THREADS, "metadata")
        prefetcher = Prefetcher(lambda project: self.prefetch(self.mirrors[name, url], project))
        return Mirror(name, upstream, cache, metadata, prefetcher)

    def respond_with_page(self, request: Any, found: re.Match[str]) -> Any:
        stage = self.xom.model.getstage(found["index"])
        if stage is None:
            return None
        name = found["project"]
        if not NAME.fullmatch(name):
            return failure(UpstreamError(f"{name!r} is not the name of a project", 404))
        project = canonicalize_name(name)
        if name != project or not found["slash"]:
            # nginx makes the location relative: which address the client used, this does not know.
            return Response(status=302, location=f"/{found['index']}/+simple/{project}/", vary=["Accept"])
        mirror = self.mirror_of(found["index"])
        try:
            if mirror is None:
                return self.inherited_page_response(request, stage, project)
            return page_response(request, mirror.name, project, self.get_page(request, mirror, project))
        except UpstreamError as exc:
            return failure(exc)

    def get_page(self, request: Any, mirror: Mirror, project: str) -> Served:
        """Return a page of a mirror index. Raises UpstreamError."""
        return mirror.cache.get(project, reload="no-cache" in request.headers.get("Cache-Control", ""))

    def inherited_page_response(self, request: Any, stage: Any, project: str) -> Any:
        """Return a page that an index takes from mirror indexes in part, or None if it does not. Raises UpstreamError."""
        stages = compat.stages_with(stage, project)
        mirrors = [mirror for mirror in (self.mirror_of(found.name) for found in stages) if mirror]
        own = [found for found in stages if not compat.is_mirror(found)]
        if not mirrors:
            return None
        if not own and len(mirrors) == 1:
            if mirrors[0].name == config.INDEX and request.headers.get("X-Shared-Pages"):
                # nginx has it, or requests it as a page of that index.
                return Response(headerlist=[("X-Accel-Redirect", f"/+shared/{project}/")])
            return page_response(request, mirrors[0].name, project, self.get_page(request, mirrors[0], project))
        served: list[tuple[str, Served]] = []
        error: UpstreamError | None = None
        for mirror in mirrors:
            try:
                served.append((mirror.name, self.get_page(request, mirror, project)))
            except UpstreamError as exc:
                if exc.status not in (404, 410):
                    raise
                error = exc
        if error and not own and not served:
            raise error
        own_pages = [
            pages.empty(project)
            | {"files": compat.private_files(found, project), "versions": sorted(found.list_versions_perstage(project))}
            for found in own
        ]
        # An upload must be visible at once, and a project that a mirror index lacks is requested again soon.
        limits = [0] * bool(own) + [config.ABSENT_FRESHNESS] * bool(error)
        fresh_for = min([*limits, *(found.fresh_for for _name, found in served)])
        size = sum(found.size for _name, found in served)
        # The merged page is in memory until the response has been rendered.
        with one_if_large(size):
            return page_response(request, stage.name, project, merge(own_pages, served, size, fresh_for))

    def respond_with_file(self, request: Any, found: re.Match[str]) -> Any:
        mirror = self.mirror_of(found["index"])
        if mirror is None:
            return None
        # Pages link to files as "-f", see pages.py.
        path = f"+{found['path'][1:]}"
        request.path_info = f"/{mirror.name}/{path}{found['metadata'] or ''}"
        try:
            if found["metadata"]:
                return self.metadata_response(request, mirror, path)
            stored = mirror.stored(path)
            if stored.is_file():
                # devpi knows its type and its date.
                return None if self.has_entry(mirror, path) else stored_response(request, stored)
            return self.download_response(request, mirror, path)
        except (UpstreamError, NoRoom) as exc:
            return failure(exc)

    def has_entry(self, mirror: Mirror, path: str) -> bool:
        entry = self.xom.filestore.get_file_entry(f"{mirror.name}/{path}")
        return entry is not None and bool(entry.meta)

    def find(self, mirror: Mirror, path: str, max_age: float | None = None) -> tuple[str, pages.File]:
        """Return the project of a file, and what the upstream's page says of it. Raises UpstreamError.

        ``max_age`` is as that of PageCache.
        """
        error = UpstreamError(f"the upstream lists no file {path}", 404)
        for project in projects_of(path.rpartition("/")[2]):
            try:
                file = mirror.cache.find(project, path, max_age)
            except UpstreamError as exc:
                if exc.status not in (404, 410):
                    raise
                error = exc
                continue
            if file:
                return project, file
        raise error

    def metadata_response(self, request: Any, mirror: Mirror, path: str) -> Any:
        # A page of any age tells whether cached metadata has changed.
        project, file = self.find(mirror, path, math.inf if request.if_none_match else None)
        if not file["filename"].endswith(".whl"):
            raise UpstreamError(f"{file['filename']} is no wheel", 404)
        if has_listed_metadata(request, file):
            return Response(status=304, headerlist=[("Cache-Control", METADATA_CACHING)])
        # nginx sends no header of a client's with a request whose response it caches, but for installers this one.
        prefetches = request.headers.get("X-Prefetch") or INSTALLERS.match(request.user_agent or "")
        is_first = prefetches and mirror.prefetcher.is_first_request(project)
        content = self.unrequested.take((mirror.upstream.url, path)) or self.with_current_link(
            mirror, project, path, file, lambda current: self.get_metadata(mirror, path, current)
        )
        if prefetches:
            prefetch_file = None
            if is_first:
                job = self.download_job(mirror, path, project, file)
                prefetch_file = partial(self.downloads.start_missing, job, prefetch=True)
            mirror.prefetcher.metadata_is_sent(content, prefetch_file)
        response = Response(body=content, content_type="application/octet-stream")
        response.etag = hashlib.sha256(content).hexdigest()
        response.headers["Cache-Control"] = METADATA_CACHING
        return response

    def get_metadata(self, mirror: Mirror, path: str, file: pages.File, *, prefetch: bool = False) -> bytes:
        """Return the core metadata of a wheel. Raises UpstreamError and NoRoom."""
        key = (mirror.upstream.url, path)

        def get() -> bytes:
            content = get_core_metadata(mirror.upstream, file, mirror.stored(path))
            if prefetch:
                self.unrequested.put(key, content)
            return content

        try:
            return mirror.metadata.run((path, file["url"]), get, METADATA_WAIT)
        except TimeoutError:
            raise UpstreamError(f"the metadata of {file['filename']} has not arrived in time") from None

    def with_current_link(
        self, mirror: Mirror, project: str, path: str, file: pages.File, use: Callable[[pages.File], T]
    ) -> T:
        """Return what ``use`` returns for a file, or for its current link if the upstream denies that of the stored page.

        Raises what ``use`` raises.
        """
        try:
            return use(file)
        except UpstreamError as exc:
            current = self.current_file(mirror, project, path) if exc.status in OUTDATED else None
            if current is None or current["url"] == file["url"]:
                raise
        return use(current)

    def current_file(self, mirror: Mirror, project: str, path: str) -> pages.File | None:
        """Return what the upstream's page says now of a file, or None if it says nothing."""
        try:
            return mirror.cache.find(project, path, max_age=0)
        except UpstreamError:
            return None

    def prefetch(self, mirror: Mirror, project: str) -> None:
        """Get a page, and the core metadata of the wheel that a client is likely to take of it."""
        listing = mirror.cache.listing(project)
        # A client that is faster has requested what it needs.
        wheel = None if mirror.prefetcher.was_requested(project) else likely_wheel(listing)
        if wheel:
            self.get_metadata(mirror, *wheel, prefetch=True)

    def download_job(self, mirror: Mirror, path: str, project: str, file: pages.File) -> Job:
        """Return what is needed to download a file of a mirror index and to store it in devpi."""
        store = partial(store_file, self.xom, mirror.name, path, project, file)
        return Job(mirror.stored(path), mirror.upstream, source_of(file), store)

    def download_response(self, request: Any, mirror: Mirror, path: str) -> Any:
        project, file = self.find(mirror, path)
        if request.method == "HEAD":
            size = source_of(file).size
            if size is None:
                with mirror.upstream.stream(file["url"], method="HEAD", is_file=True) as response:
                    length = response.headers.get("Content-Length")
                    size = None if length is None else int(length)
            return file_response([], size)

        def start_download(current: pages.File) -> Download | None:
            download = self.downloads.start_missing(self.download_job(mirror, path, project, current))
            if download:
                download.await_response()
            return download

        download = self.with_current_link(mirror, project, path, file, start_download)
        if download is None:
            # It was stored since the request began, whose transaction lacks its entry.
            return stored_response(request, mirror.stored(path))
        start, end = requested_range(request, download.size)
        if start and not download.is_sendable(start, PART_WAIT):
            # The whole file begins at once, and clients accept it in place of a part.
            start, end = 0, None
        # Until then nothing is sent, so that a failure can still be an error with its reason.
        download.await_first_byte(start)
        response = file_response(download.read(start, end), download.size)
        if (start, end) != (0, None) and download.size is not None:
            last = download.size if end is None else end
            response.status = 206
            response.content_length = last - start
            response.headers["Content-Range"] = f"bytes {start}-{last - 1}/{download.size}"
        return response


def has_listed_metadata(request: Any, file: pages.File) -> bool:
    """Return whether a client has the core metadata of a wheel that the page lists.

    Without a listed hash, it is that of the wheel, and the URL has the hash of that.
    """
    listed = pages.listed_metadata(file)
    digest = listed.get("sha256") if isinstance(listed, dict) else None
    return bool(request.if_none_match) and (digest in request.if_none_match if digest else not isinstance(listed, dict))


def source_of(file: pages.File) -> Source:
    """Return what the upstream's page lists of a file. Only a number that a file can have is its size."""
    size, hashes = file.get("size"), file.get("hashes")
    is_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    return Source(file["url"], size if is_size else None, hashes if isinstance(hashes, dict) else {})


def projects_of(filename: str) -> list[str]:
    """Return the projects that can have a file of this name, the most likely one first."""
    if filename.endswith(".whl"):
        return [canonicalize_name(filename.partition("-")[0])]
    try:
        likely = [canonicalize_name(splitbasename(filename)[0])]  # type: ignore[no-untyped-call]
    except ValueError:
        likely = []
    hyphens = [index for index, character in enumerate(filename) if character == "-"]
    names: list[str] = [*likely, *(canonicalize_name(filename[:index]) for index in hyphens)]
    return list(dict.fromkeys(names))[:PROJECTS]


def requested_range(request: Any, size: int | None) -> tuple[int, int | None]:
    """Return the part of a file that a client wants, from the first byte to before the last one, or all of it."""
    found = RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if not found or size is None or not any(found.groups()) or "If-Range" in request.headers:
        return 0, None
    first, last = found.groups()
    if not first and not int(last):
        # The last zero bytes are no part, see RFC 9110.
        return 0, None
    if not first:
        return max(size - int(last), 0), None
    if int(first) >= size or (last and int(last) < int(first)):
        return 0, None
    return int(first), min(int(last) + 1, size) if last else None


def accepted_form(request: Any) -> str:
    """Return the content type of a page that a client prefers."""
    offers = request.accept.acceptable_offers([pages.TEXT_HTML, pages.HTML, pages.JSON, LATEST_JSON])
    best = offers[0][0] if offers else pages.TEXT_HTML
    return pages.JSON if best == LATEST_JSON else best


def merge(own_pages: list[pages.Page], served: list[tuple[str, Served]], size: int, fresh_for: int) -> Served:
    """Return the page that an index takes from those of itself and of mirror indexes, by name. Raises UpstreamError."""
    found_pages = [found.page() for _name, found in served]
    page = pages.merged([*own_pages, *found_pages])
    # A list of the versions must not lack those of an upstream that lists none.
    if not any("versions" in found for found in found_pages):
        page.pop("versions", None)
    content = pages.render_json(page)
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


def page_response(request: Any, index: str, project: str, served: Served) -> Any:
    """Return a page in the form that the client prefers. Raises UpstreamError."""
    form = accepted_form(request)
    # If nginx revalidates a page, it replaces its headers only together with the page.
    tag = f"{served.tag}-{'json' if form == pages.JSON else 'html'}{'-stale' if served.error else ''}"
    response = Response(vary=["Accept"])
    response.etag = tag
    if served.serial:
        response.headers["X-PyPI-Last-Serial"] = served.serial
    # No stale-if-error: for nginx, the removal of a project is such an error. It serves stale pages while devpi is unavailable,
    # and this does while the upstream is.
    stale = f", stale-while-revalidate={config.max_stale()}" if served.is_usable_stale else ""
    response.headers["Cache-Control"] = f"max-age={served.fresh_for}{stale}"
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
            body = compressed(pages.render_html(served.page(), project))
    fill(request, response, form, body)
    return response


def fill(request: Any, response: Any, form: str, body: bytes) -> None:
    """Set the body of a response to a page, which is compressed with gzip, in the encoding that the client accepts."""
    response.content_type = form
    response.charset = "utf-8" if form == pages.TEXT_HTML else None
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response.content_encoding = "gzip"
        response.body = body
    else:
        # In pieces, as the page of each of many clients can be large.
        response.app_iter = decompressed([body])


def file_response(body: Iterator[bytes] | list[bytes], size: int | None) -> Any:
    response = Response(content_type="application/octet-stream", app_iter=body)
    response.content_length = size
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = IMMUTABLE
    return response


def stored_response(request: Any, path: Path) -> Any:
    """Return a file on the disk of which devpi has no entry."""
    status = path.stat()
    response = file_response([], status.st_size)
    response.headers["Last-Modified"] = formatdate(status.st_mtime, usegmt=True)
    if request.method != "HEAD":
        response.app_iter = read(path)
    return response


def read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(65_536):
            yield piece


def failure(error: UpstreamError | NoRoom) -> Any:
    """Return the response to a request that failed, with the reason."""
    if isinstance(error, NoRoom):
        print(error, flush=True)
        return Response(text=f"{error}\n", status=507, content_type="text/plain")
    response = Response(text=f"{error}\n", status=error.status, content_type="text/plain")
    if error.retry_after:
        response.headers["Retry-After"] = error.retry_after
    if error.status in (404, 410):
        # nginx caches it, so that it replaces a cached page. page_cache.py remembers it for longer.
        response.headers["Cache-Control"] = "max-age=1"
    else:
        print(error, flush=True)
    return response
