# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin of devpi-server that serves simple pages, files and core metadata of mirror indexes.

devpi still decides which indexes exist, who may read them, and what private ones have. Of a mirror index, its database has only
the files that were downloaded.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from pluggy import HookimplMarker
from pyramid.response import Response  # type: ignore[import-untyped]

from . import compat, config, pages, patches, reading
from .core_metadata import get_core_metadata
from .downloads import DiskFullError, Downloads, Job, Source
from .identities import identities_of
from .links import Link
from .mirror import Mirror
from .page_cache import Served, one_if_large
from .policy import DEFAULTS, PolicyError, policy_of
from .prefetch import INSTALLERS, PrefetchedMetadata, likely_wheel
from .responses import (
    error_response,
    file_response,
    has_current_metadata,
    merge,
    metadata_response,
    page_response,
    requested_range,
    stored_response,
    unchanged_metadata_response,
)
from .store.file_entry import store_file
from .upstream import Upstream, UpstreamError

hookimpl = HookimplMarker("devpiserver")

PAGE = re.compile(r"/(?P<index>[^/+]+/[^/+]+)/\+simple/(?P<project>[^/]+)(?P<slash>/?)")
# devpi ignores slashes at the end of a file's path.
FILE = re.compile(
    r"/(?P<index>[^/+]+/[^/+]+)/(?P<path>(?:[+-]f/[0-9a-f]{3}/[0-9a-f]{13}|\+e/[^/]+)/[^/\x00-\x1f\x7f]+?)"
    r"(?P<metadata>\.metadata)?/*"
)
POLICY = re.compile(r"/(?P<index>[^/+]+/[^/+]+)/\+policy/(?:(?P<path>\+f/[^\x00-\x1f\x7f]+)|(?P<project>[^/+]+))")
# Wrong URLs of an index that users try: the path of PyPI's index, or the correct path without its plus sign.
GUESSED = re.compile(rf"(?P<index>/{config.INDEX})?/simple/(?:[^/]+/?)?|/simple")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@hookimpl
def devpiserver_pyramid_configure(pyramid_config: Any) -> None:
    transaction = "devpi_server.views.tween_keyfs_transaction"
    logging = "devpi_server.views.tween_request_logging"
    access = "devpi_mirror.access.tween_factory"
    pyramid_config.add_tween("devpi_mirror.replica.tween_factory", under=logging, over=access)
    pyramid_config.add_tween(access, under=logging, over=transaction)
    pyramid_config.add_tween("devpi_mirror.routes.tween_factory", under=access, over=transaction)
    pyramid_config.add_tween("devpi_mirror.push.tween_factory", under=access, over=transaction)
    pyramid_config.add_tween("devpi_mirror.plugin.tween_factory", under=transaction)


@hookimpl
def devpiserver_indexconfig_defaults(index_type: str) -> dict[str, Any]:
    return dict(DEFAULTS) if index_type in config.MIRROR_TYPES else {reading.ACL: compat.empty_acl()}


@hookimpl
def devpiserver_stage_get_principals_for_pkg_read(ixconfig: Mapping[str, Any]) -> list[str] | None:
    return reading.principals(ixconfig)


@hookimpl
def devpiserver_auth_request(request: Any, username: str, password: str) -> dict[str, Any] | None:
    return identities_of(request.registry).ask_directory(request, username, password) if request else None


@hookimpl
def devpiserver_auth_denials(request: Any, user: Any) -> set[tuple[str, str]] | None:
    # With a password in devpi, the user could log in after the LDAP server has removed the user.
    if user is not None and identities_of(request.registry).uses_directory(user.name):
        return {(user.name, "user_modify_password")}
    return None


# devpi loads this module in the server and in all of its commands.
patches.apply()


def tween_factory(handler: Callable[[Any], Any], registry: Any) -> Callable[[Any], Any]:
    service = registry["xom"].devpi_mirror = Service(registry["xom"])

    def tween(request: Any) -> Any:
        response = reading.refusal(service.xom, registry, request) or service.respond(request)
        return handler(request) if response is None else response

    return tween


class Service:
    """Responds to requests for pages and files of mirror indexes."""

    def __init__(self, xom: Any) -> None:
        self.xom = xom
        self.mirrors: dict[tuple[str, str], Mirror] = {}
        self.lock = threading.Lock()
        self.downloads = Downloads(config.TEMPORARY)
        self.prefetched_metadata = PrefetchedMetadata()

    def respond(self, request: Any) -> Any:
        """Return the response to a request, or None if devpi has to respond."""
        if request.method not in ("GET", "HEAD"):
            return None
        path = request.path_info
        found = PAGE.fullmatch(path)
        if found:
            return self.respond_with_page(request, found)
        found = FILE.fullmatch(path)
        if found:
            return self.respond_with_file(request, found)
        found = POLICY.fullmatch(path)
        if found:
            return self.respond_with_policy(found)
        found = GUESSED.fullmatch(path)
        return self.respond_to_guess(request, found) if found else None

    def respond_to_guess(self, request: Any, found: re.Match[str]) -> Any:
        """Return the URL of the index that a client seems to mean, unless a user or a project has this name."""
        if not found["index"] and self.xom.model.get_user("simple") is not None:
            return None
        url = f"{request.scheme}://{request.host}/{config.INDEX}/+simple/"
        return error_response(UpstreamError(f"This is not the URL of an index. The index has the URL {url}", 404))

    def mirror_of(self, name: str) -> Mirror | None:
        """Return the mirror index of a name, or None if there is no such index or it is no mirror.

        Raises UpstreamError if its policy is invalid, so that nothing is served.
        """
        stage = self.xom.model.getstage(name)
        if stage is None or not compat.is_mirror(stage):
            return None
        url = compat.mirror_url(stage)
        try:
            policy = policy_of(stage.ixconfig)
        except PolicyError as exc:
            raise UpstreamError(f"the settings of {name} are invalid: {exc}") from exc
        with self.lock:
            mirror = self.mirrors.get((name, url))
            if mirror is None:
                mirror = self.mirrors[name, url] = Mirror(name, url, self.prefetch)
            mirror.policy = policy
            return mirror

    # Pages.

    def simple_links(self, stage: Any, project: str) -> Any:
        """Return the links of a project of a mirror index for devpi. Raises the errors that devpi expects."""
        try:
            mirror = self.mirror_of(stage.name)
            if mirror is None:
                raise UpstreamError(f"{stage.name} is no mirror index")
            project = canonicalize_name(project)
            served = mirror.get(project)
            with one_if_large(served.size):
                return compat.simple_links(stage, project, served.page())
        except UpstreamError as exc:
            error = stage.UpstreamNotFoundError if exc.status in (404, 410) else stage.UpstreamError
            raise error(str(exc)) from exc

    def respond_with_page(self, request: Any, found: re.Match[str]) -> Any:
        stage = self.xom.model.getstage(found["index"])
        if stage is None:
            return None
        name = found["project"]
        if not NAME.fullmatch(name):
            return error_response(UpstreamError(f"{name!r} is not the name of a project", 404))
        project = canonicalize_name(name)
        if name != project or not found["slash"]:
            # nginx makes the location relative, as devpi does not know the host name that the client used.
            return Response(status=302, location=f"/{found['index']}/+simple/{project}/", vary=["Accept"])
        try:
            mirror = self.mirror_of(found["index"])
            if mirror is None:
                return self.inherited_page_response(request, stage, project)
            return page_response(request, mirror.name, project, self.get_page(request, mirror, project))
        except UpstreamError as exc:
            return error_response(exc)

    def get_page(self, request: Any, mirror: Mirror, project: str) -> Served:
        """Return a page of a mirror index. Raises UpstreamError."""
        return mirror.get(project, reload="no-cache" in request.headers.get("Cache-Control", ""))

    def inherited_page_response(self, request: Any, stage: Any, project: str) -> Any:
        """Return a page that an index takes from mirror indexes, at least in part, or None. Raises UpstreamError."""
        stages = compat.stages_with(stage, project)
        mirrors = [mirror for mirror in (self.mirror_of(found.name) for found in stages) if mirror]
        own = [found for found in stages if not compat.is_mirror(found)]
        if not mirrors:
            return None
        if own or len(mirrors) > 1:
            served = self.merged_page(request, project, own, mirrors)
            # The merged page is in memory until the response has been rendered.
            with one_if_large(served.size):
                return page_response(request, stage.name, project, served)
        (mirror,) = mirrors
        if request.headers.get("X-Shared-Pages") and mirror.name in self.xom.devpi_routes.served:
            # nginx has it cached, or requests it as a page of that index.
            return Response(headerlist=[("X-Accel-Redirect", f"/+shared/{mirror.name}/{project}/")])
        return page_response(request, mirror.name, project, self.get_page(request, mirror, project))

    def merged_page(self, request: Any, project: str, own: list[Any], mirrors: list[Mirror]) -> Served:
        """Return the page of an index that takes a project from several. Raises UpstreamError."""
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
        with one_if_large(size):
            return merge(own_pages, served, size, fresh_for)

    # Files and core metadata.

    def respond_with_file(self, request: Any, found: re.Match[str]) -> Any:
        # Pages link to files as "-f", see listing.py.
        path = f"+{found['path'][1:]}"
        try:
            mirror = self.mirror_of(found["index"])
            if mirror is None:
                return None
            request.path_info = f"/{mirror.name}/{path}{found['metadata'] or ''}"
            mirror.require_visible(path)
            if found["metadata"]:
                return self.respond_with_metadata(request, mirror, path)
            stored = mirror.stored(path)
            if stored.is_file():
                # devpi knows the type and the date of a file that has an entry.
                return None if self.has_entry(mirror, path) else stored_response(request, stored)
            return self.respond_with_download(request, mirror, path)
        except (UpstreamError, DiskFullError) as exc:
            return error_response(exc)

    def respond_with_policy(self, found: re.Match[str]) -> Any:
        """Return whether a file is visible, for nginx, or which files of a project are hidden."""
        try:
            mirror = self.mirror_of(found["index"])
            if mirror is None:
                return None
            if found["path"]:
                mirror.require_visible(found["path"])
                # A file can be yanked at any time.
                hides_yanked = mirror.policy is not None and mirror.policy.hide_yanked
                max_age = (
                    min(config.VISIBLE_FRESHNESS, config.freshness()) if hides_yanked else config.VISIBLE_FRESHNESS
                )
                return Response(status=204, cache_control=f"max-age={max_age}")
            return self.hidden_files_response(mirror, canonicalize_name(found["project"]))
        except UpstreamError as exc:
            return error_response(exc)

    def hidden_files_response(self, mirror: Mirror, project: str) -> Any:
        served = mirror.pages.get(project)
        with one_if_large(served.size):
            files = served.page()["files"]
            hidden = [(file, reason) for file in files if (reason := mirror.hides(project, file))]
        described = [{"filename": file["filename"], **reason.described()} for file, reason in hidden]
        result = {"project": project, "listed": len(files) - len(hidden), "hidden": described}
        return Response(json_body={"type": "policy", "result": result})

    def has_entry(self, mirror: Mirror, path: str) -> bool:
        entry = self.xom.filestore.get_file_entry(f"{mirror.name}/{path}")
        return entry is not None and bool(entry.meta)

    def download_job(self, mirror: Mirror, path: str, project: str, link: Link) -> Job:
        """Return the job that downloads a file of a mirror index and stores it in devpi."""

        def store(downloaded: Path, digests: Mapping[str, str]) -> None:
            store_file(self.xom, mirror.name, path, project, link.file, downloaded, digests)

        return Job(mirror.stored(path), source_of(link), store)

    def respond_with_download(self, request: Any, mirror: Mirror, path: str) -> Any:
        project, link = mirror.find(path)
        if request.method == "HEAD":
            size = source_of(link).size
            return file_response([], link.request(size_of) if size is None else size)
        download = self.downloads.start_missing(self.download_job(mirror, path, project, link))
        if download is None:
            # It was stored since the request began, whose transaction lacks its entry.
            return stored_response(request, mirror.stored(path))
        download.await_response()
        start, end = requested_range(request, download.size)
        # Nothing is sent before the first byte is available, so that a failure can still be an error with its reason.
        if not download.await_first_byte(start, config.PART_TIMEOUT if start else math.inf):
            # The whole file begins at once, and clients accept it in place of a part.
            start, end = 0, None
            download.await_first_byte(0)
        response = file_response(download.read(start, end), download.size)
        if (start, end) != (0, None) and download.size is not None:
            last = download.size if end is None else end
            response.status = 206
            response.content_length = last - start
            response.headers["Content-Range"] = f"bytes {start}-{last - 1}/{download.size}"
        return response

    def respond_with_metadata(self, request: Any, mirror: Mirror, path: str) -> Any:
        # A page of any age shows whether the client's metadata has changed.
        project, link = mirror.find(path, at_any_age=bool(request.if_none_match))
        file = link.file
        if not file["filename"].endswith(".whl"):
            raise UpstreamError(f"{file['filename']} is no wheel", 404)
        if has_current_metadata(request, file):
            return unchanged_metadata_response()
        # nginx removes the headers of clients from requests whose responses it caches, and adds this one for installers.
        prefetches = request.headers.get("X-Prefetch") or INSTALLERS.match(request.user_agent or "")
        is_first = prefetches and mirror.prefetcher.is_first_request(project)
        key = (link.target.upstream.url, path)
        content = self.prefetched_metadata.pop(key) or self.get_metadata(mirror, path, link)
        if prefetches:
            prefetch_file = None
            if is_first:
                job = self.download_job(mirror, path, project, link)
                prefetch_file = partial(self.downloads.start_missing, job, prefetch=True)
            mirror.prefetcher.prefetch_after_metadata(content, prefetch_file)
        return metadata_response(content, is_temporary=link.is_of_fallback)

    def get_metadata(self, mirror: Mirror, path: str, link: Link, *, prefetch: bool = False) -> bytes:
        """Return the core metadata of a wheel. Raises UpstreamError and DiskFullError."""
        key = (link.target.upstream.url, path)

        def get() -> bytes:
            content = link.request(partial(get_core_metadata, stored=mirror.stored(path)))
            if prefetch:
                self.prefetched_metadata.add(key, content)
            return content

        try:
            return mirror.metadata.run(path, get, config.METADATA_TIMEOUT)
        except TimeoutError:
            raise UpstreamError(f"the metadata of {link.file['filename']} has not arrived in time") from None

    def prefetch(self, mirror: Mirror, project: str) -> None:
        """Get a page, and the core metadata of the wheel that a client is likely to choose."""
        listing, cache = mirror.pages.listing(project)
        # A client that is faster has requested what it needs.
        is_hidden = partial(mirror.hides, project)
        wheel = None if mirror.prefetcher.was_requested(project) else likely_wheel(listing, is_hidden)
        if wheel:
            path, file = wheel
            self.get_metadata(mirror, path, mirror.pages.link(project, path, file, cache), prefetch=True)


def source_of(link: Link) -> Source:
    """Return what the upstream's page lists of a file. A size that no file can have is ignored."""
    size, hashes = link.file.get("size"), link.file.get("hashes")
    is_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    return Source(link, size if is_size else None, hashes if isinstance(hashes, dict) else {})


def size_of(upstream: Upstream, file: pages.File) -> int | None:
    """Return the size of a file at the upstream in bytes, or None if it is not known. Raises UpstreamError."""
    with upstream.stream(file["url"], method="HEAD", is_file=True) as response:
        length = response.headers.get("Content-Length")
        return None if length is None else int(length)
