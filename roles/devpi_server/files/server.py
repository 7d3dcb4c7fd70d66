"""devpi-server, with changes that save time, and two that tell what is wrong.

When the page of a project arrives, devpi looks at every link of it for files that are missing, and for plugins that want to be
told. It finds none, as these files are only promised. Here it does not look, and a URL is taken apart only where it has to be.

What devpi knows of a file, and which projects an index has, it reads from all that was written with it: for a file of a mirror,
thousands of links, each time, as what it remembers is forgotten with every change of anything. Here it remembers what was
written last, and of each page the files at its end, which are those of the latest releases.

Each page is fetched by a client of its own, over a connection of its own: some round trips to the upstream more than the one
that it needs. Here one client fetches all pages.

Files are passed on in pieces of 10 kB, for each of which a thread of a busy devpi waits for its turn. Here they are passed on
in the pieces that they come in.

Pages of the mirror index are compressed here, where it is known how long they are in the end: nginx could compress them too,
and would have to send each in chunks ever after. Links in them are called "-f" where devpi calls them "+f": pip needs half as
long again for each link that has a "+" in it, which it quotes, and a page has thousands.

Core metadata (PEP 658) spares installers whole wheels. devpi promises it for every wheel, and passes on what its upstream has,
but upstreams don't have it for every wheel, and pip has no way back from a promise that is not kept. Here it is then read
out of the wheel at the upstream: its end is fetched, where the metadata is, and the wheel only if it comes in one piece.

An installer that asks for the metadata of a release is about to ask for more, which is fetched meanwhile.

Where a disk becomes full in the middle of a download, the download breaks off, and the client blames the network. Here what
has no room is refused before it begins. A database that is damaged is said to be, with what to do.
"""

from __future__ import annotations

import gc
import gzip
import io
import os
import sqlite3
import sys
import tempfile
import threading
import zipfile
import zlib
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any, AsyncIterator, BinaryIO, Callable, Iterable, Iterator, Mapping

import httpx
import recovery
from ahead import INDEX, Ahead
from archives import METADATA_LIMIT, get_core_metadata, is_of_wheel, read_wheel
from caretaker import RESERVE, disk, request_scrub
from devpi_common.url import URL
from devpi_server import views
from devpi_server.filestore import BadGateway
from devpi_server.httpclient import HTTPClient
from devpi_server.main import main
from names import MAJOR
from pyramid.httpexceptions import HTTPInsufficientStorage, HTTPRequestEntityTooLarge, HTTPUnauthorized
from upstream import read_upstream

if MAJOR < 7:
    from devpi_server import keyfs
    from devpi_server import model as users
    from devpi_server import views as fetching
    from devpi_server.keyfs_sqlite import Writer
    from devpi_server.model import BaseStageCustomizer as IndexCustomizer
    from devpi_server.model import UpstreamError
    from devpi_server.readonly import ensure_deeply_readonly
    from repoze.lru import LRUCache

    read_backwards = keyfs.iter_serial_and_value_backwards
    commit = Writer.commit
    execute_hooks = keyfs.TxNotificationThread._execute_hooks
    # Of files and of lists of projects by their keys: the serial of the last change, that of the one before, and the value.
    remembered = LRUCache(10_000)
    # The serials of what was written for pages, until devpi would look at it.
    of_pages: set[int] = set()
else:
    from devpi_server.model import remote as fetching
    from devpi_server.model import user as users
    from devpi_server.model.customizer import BaseIndexCustomizer as IndexCustomizer
    from devpi_server.model.exceptions import UpstreamError

PAGES = f"{INDEX}/+simple/"
FILES = f"{INDEX}/+f/".lstrip("/")
# Most wheels have their metadata and their table of contents in so many bytes at their end.
PART = 65536
# Bytes of a page when it is expanded. That of ddtrace, which lists 46,724 files, has 21 MB.
PAGE_LIMIT = 64_000_000
# What parsing a page takes, which can be much for a few bytes: 1 for each value, 2 for each object or list, 8 for each element
# of HTML. That of ddtrace takes up to 1.7 million, depending on what an index says of files. 3 million take 300 MB of memory.
COMPLEXITY_LIMIT = 3_000_000
# Bytes of HTML between the start of an element and that of the next, as a start can have any number of attributes.
ELEMENT_LIMIT = 65536
# Bytes of a request that any client can send.
BODY_LIMIT = 65536
# Passwords that are compared at a time, each of which takes 64 MB of memory.
PASSWORDS = 2
# A file is written three times while it comes: as devpi receives it, where it stays, and by nginx for those who ask meanwhile.
COPIES = 3
# How many files of a page are remembered, and devpi's names of the keys: of files, of what is remembered, and of pages.
LATEST = 250
FILE_KEYS = ("STAGEFILE", "PYPIFILE_NOMD5")
REMEMBERED = (*FILE_KEYS, "PROJNAMES")
PAGE_KEYS = ("PROJSIMPLELINKS", "PROJNAMES")

make_transaction_tween = views.tween_keyfs_transaction
check_password = users.verify_and_update_password_hash
comparisons = threading.BoundedSemaphore(PASSWORDS)
make_client = HTTPClient.async_client
set_up_client = HTTPClient.__init__
name_uploaders = IndexCustomizer.get_principals_for_toxresult_upload
stream_remote_file = views.iter_stream_remote_file
cache_remote_file = fetching.iter_cache_remote_file
serve_file = views.PyPIView._pkgserv
serve_page = views.PyPIView.simple_list_project
make_url_factory = views.PyPIView._makeurl_factory
iter_pieces = httpx.Response.iter_raw
replace = URL.replace
joinpath = URL.joinpath
ahead = Ahead()


def is_of_page(change: tuple[str, int, Any]) -> bool:
    """Tell whether something was written for a page that arrived, of whose files there are only the links."""
    name, _before, value = change
    return name in PAGE_KEYS or (name in FILE_KEYS and bool(value) and "url" in value and "last_modified" not in value)


def tell_of_files(self: Any, serial: int, log: Any, **options: Any) -> None:
    """Look for the files of a transaction and tell the plugins of them, unless there can be none."""
    if serial in of_pages:
        of_pages.remove(serial)
    else:
        execute_hooks(self, serial, log, **options)


def commit_and_remember(self: Any, serial: int) -> Any:
    """Write a transaction's changes, and remember of them what is read next."""
    told = commit(self, serial)
    changes = ensure_deeply_readonly(self.changes)
    self.storage._changelog_cache.put(serial, changes)
    if all(map(is_of_page, self.changes.values())):
        of_pages.add(serial)
    pages = [value for name, _before, value in self.changes.values() if name == "PROJSIMPLELINKS" and value]
    latest = {href.partition("#")[0] for page in pages for _name, href in (page.get("links") or ())[-LATEST:]}
    for key, (name, before, value) in changes.items():
        if name in REMEMBERED and (name not in FILE_KEYS or not pages or key in latest):
            remembered.put(key, (serial, before, value))
    return told


def read_remembered(connection: Any, key: str, serial: int) -> Iterator[Any]:
    """Yield the serial of a key's change, that of the one before, and the value, and then what was before that."""
    found = remembered.get(key)
    if found is None or found[0] != serial:
        found = next(read_backwards(connection, key, serial), None)
        if found is None:
            return
        if connection.get_changes(serial)[key][0] in REMEMBERED:
            remembered.put(key, found)
    yield found
    yield from read_backwards(connection, key, found[1])


def replace_part(self: URL, **parts: Any) -> URL:
    """Return a URL with other parts, a fragment being what most are asked for."""
    if parts.keys() != {"fragment"}:
        return replace(self, **parts)
    base = self.url.partition("#")[0]
    return URL(f"{base}#{parts['fragment']}" if parts["fragment"] else base)


def join(self: URL, *paths: str, **options: Any) -> URL:
    """Return where paths lead from a URL: most that are asked for lead to another one, or to the root of the same host."""
    path = paths[0]
    if len(paths) > 1 or options or "?" in self.url + path or "/." in path:
        return joinpath(self, *paths, **options)
    if path.startswith(("http://", "https://")):
        return URL(path)
    if path.startswith("/") and not path.startswith("//"):
        return URL(f"{self.scheme}://{self.netloc}{path}")
    return joinpath(self, path)


def authenticate(request: httpx.Request) -> None:
    """Add the credentials for the upstream to a request to its origin. httpx calls it for each redirect too."""
    upstream = read_upstream(os.environ)
    if upstream.authorization and upstream.is_at(str(request.url)):
        request.headers.setdefault("Authorization", upstream.authorization)
    elif upstream.authorization and request.headers.get("Authorization") == upstream.authorization:
        # httpx keeps it when a host redirects from http to https.
        del request.headers["Authorization"]


async def authenticate_async(request: httpx.Request) -> None:
    authenticate(request)


class LimitedStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a response, expanded here, as httpx expands any amount. Raises ``error`` if it is too large."""

    def __init__(self, response: httpx.Response, error: type[Exception]) -> None:
        self.stream: Any = response.stream
        # The query and the user of a URL that a redirect leads to can be credentials.
        self.url = response.url.copy_with(userinfo=b"", query=None)
        self.error = error
        self.received = self.size = self.complexity = self.element = 0
        # devpi parses what is not marked as JSON, and does not begin with a brace, as HTML.
        self.is_html = "json" not in response.headers.get("Content-Type", "")
        encoding = response.headers.pop("Content-Encoding", "").lower()
        # httpx reads the body of a redirect, and nothing uses it.
        if response.has_redirect_location or encoding in ("", "identity"):
            self.decompressor = None
        elif encoding in ("gzip", "x-gzip"):
            self.decompressor = zlib.decompressobj(zlib.MAX_WBITS + 16)
        else:
            raise error(f"the response has the encoding {encoding!r}, which was not requested, getting {self.url}")

    def expand(self, piece: bytes) -> bytes:
        # Compressed data can also expand to nothing.
        self.received += len(piece)
        if self.decompressor:
            try:
                piece = (
                    b"" if self.decompressor.eof else self.decompressor.decompress(piece, PAGE_LIMIT - self.size + 1)
                )
            except zlib.error as exc:
                raise self.error(f"{exc}, getting {self.url}") from exc
        self.size += len(piece)
        if max(self.received, self.size) > PAGE_LIMIT:
            raise self.error(f"the response has more than {PAGE_LIMIT // 10**6} MB, getting {self.url}")
        self.complexity += piece.count(b",") + piece.count(b":") + 2 * (piece.count(b"{") + piece.count(b"["))
        self.complexity += 8 * piece.count(b"<")
        if self.complexity > COMPLEXITY_LIMIT or (self.is_html and self.has_large_element(piece)):
            raise self.error(f"the response has too many values to be parsed, getting {self.url}")
        return piece

    def has_large_element(self, piece: bytes) -> bool:
        """Return whether an element of HTML, which can have begun in an earlier piece, is too large."""
        first, *others = piece.split(b"<")
        is_large = self.element + len(first) > ELEMENT_LIMIT or any(len(part) > ELEMENT_LIMIT for part in others)
        self.element = len(others[-1]) if others else self.element + len(first)
        return is_large

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.stream:
            yield self.expand(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.stream:
            yield self.expand(piece)

    def close(self) -> None:
        self.stream.close()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def limit_page(response: httpx.Response) -> None:
    """Limit a page, or a redirect to one. devpi serves the page that it has, or 502, with the text of UpstreamError."""
    response.stream = LimitedStream(response, UpstreamError)


def limit_response(response: httpx.Response) -> None:
    """Limit what is read into memory: redirects, and responses to what a user pushes. Files are not read into memory."""
    if response.has_redirect_location or response.request.method != "GET":
        response.stream = LimitedStream(response, BadGateway)


def set_up_authenticating_client(self: Any, **options: Any) -> None:
    """Set up devpi's HTTP client."""
    set_up_client(self, **options)
    # What LimitedStream can expand.
    self.client.headers["Accept-Encoding"] = "gzip"
    self.client.event_hooks = {"request": [authenticate], "response": [limit_response]}


def name_test_result_uploaders(self: Any, restrict_modify: Any = None) -> list[str]:
    """Return who may upload test results to an index: users, where devpi lets all clients."""
    allowed: list[str] = name_uploaders(self, restrict_modify)
    return [":AUTHENTICATED:" if name == ":ANONYMOUS:" else name for name in allowed]


def is_test_result(request: Any) -> bool:
    return bool(request.method == "POST" and "/+f/" in request.path_info)


def needs_user(request: Any) -> bool:
    """Return whether a request may only be sent by a user: it changes an index, or has devpi send requests to other hosts."""
    if is_test_result(request) and os.environ.get("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS"):
        return False
    return views.is_mutating_http_method(request.method) and request.path_info.strip("/").count("/") > 0


def is_large(request: Any) -> bool:
    """Return whether a request has more than a log-in or a user's settings, which devpi reads into memory for any client."""
    return views.is_mutating_http_method(request.method) and (request.content_length or 0) > BODY_LIMIT


def make_user_tween(handler: Any, registry: Any) -> Callable[[Any], Any]:
    """Return devpi's handler of transactions, which takes the write lock for users only.

    devpi checks permissions while it has the lock, and some only after it has waited for the upstream.
    """
    handle = make_transaction_tween(handler, registry)

    def check_user(request: Any) -> Any:
        if needs_user(request):
            with registry["xom"].keyfs.read_transaction():
                user = request.authenticated_userid
            if user is None:
                headers = [("WWW-Authenticate", 'Basic realm="pypi"')]
                return HTTPUnauthorized("This needs the credentials of a user.", headers=headers)
        elif is_large(request) and not is_test_result(request):
            return HTTPRequestEntityTooLarge(f"This can have {BODY_LIMIT} bytes.")
        return handle(request)

    return check_user


def check_password_in_turn(*arguments: Any, **options: Any) -> Any:
    """Compare a password with its hash, while few others are compared."""
    with comparisons:
        return check_password(*arguments, **options)


@asynccontextmanager
async def async_client(self: Any) -> AsyncIterator[Any]:
    """Lend the one client that fetches pages, which devpi would make for each page and close."""
    if not hasattr(self, "lent_client"):
        self.lent_client = make_client(self)
        self.lent_client.event_hooks = {"request": [authenticate_async], "response": [limit_page]}
        self.lent_client.headers["Accept-Encoding"] = "gzip"
    yield self.lent_client


def iter_raw(self: httpx.Response, chunk_size: int | None = None) -> Iterator[bytes]:
    """Yield an answer in the pieces that it comes in."""
    return iter_pieces(self)


def request(stack: ExitStack, stage: Any, url: Any, wanted: str) -> Any:
    """Ask the upstream for a part of a file: the answer is that part (206), or all of it (200). Raises BadGateway."""
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={wanted}"}
    response = stage.http.stream(stack, "GET", url, allow_redirects=True, extra_headers=headers)
    if response.status_code not in (200, 206):
        raise BadGateway(f"error {response.status_code} getting {url}", code=response.status_code, url=url)
    return response


class RemoteFile(io.RawIOBase):
    """A file at the upstream, of which only those parts are fetched that are read."""

    def __init__(self, stage: Any, url: Any, size: int, tail: bytes) -> None:
        self.stage = stage
        self.url = url
        self.size = size
        self.tail = tail
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(start + offset, 0)
        return self.position

    def readinto(self, buffer: Any) -> int:
        end = min(self.position + len(buffer), self.size)
        if self.position >= end:
            return 0
        in_tail = self.position - (self.size - len(self.tail))
        if in_tail >= 0:
            content = self.tail[in_tail : in_tail + end - self.position]
        else:
            with ExitStack() as stack:
                response = request(stack, self.stage, self.url, f"{self.position}-{end - 1}")
                content = limited(response.iter_raw(), self.url)
            if response.status_code != 206 or len(content) != end - self.position:
                raise BadGateway(f"not the part that was asked for, getting {self.url}", url=self.url)
        buffer[: len(content)] = content
        self.position += len(content)
        return len(content)


def require_room(name: str, size: int) -> None:
    """Raise HTTPInsufficientStorage if the disk has no room for ``size`` more bytes of a file."""
    free = disk()["free"]
    if free < size + RESERVE:
        text = f"The mirror has no room for {name}: {free // 10**6} MB are free on its disk."
        print(text, file=sys.stderr, flush=True)
        raise HTTPInsufficientStorage(text)


def open_remote(stage: Any, url: Any) -> BinaryIO:
    """Open a file at the upstream for reading. Raises BadGateway and HTTPInsufficientStorage."""
    with ExitStack() as stack, ExitStack() as opened:
        response = request(stack, stage, url, f"-{PART}")
        if response.status_code == 206:
            tail = limited(response.iter_raw(), url)
            size = response.headers.get("content-range", "").rpartition("/")[2]
            if not size.isdecimal():
                raise BadGateway(f"no size of the whole file, getting {url}", url=url)
            return io.BufferedReader(RemoteFile(stage, url, int(size), tail), PART)
        # On the disk, as it may be of any size.
        require_room(url.basename, int(response.headers.get("content-length") or 0))
        whole = opened.enter_context(tempfile.TemporaryFile())
        for chunk in response.iter_raw():
            # Not every response has a Content-Length, and other files arrive meanwhile.
            require_room(url.basename, len(chunk))
            whole.write(chunk)
        opened.pop_all()
        return whole


def read_metadata(stage: Any, url: Any) -> bytes:
    """Return the core metadata in a wheel at the upstream. Raises BadGateway and HTTPInsufficientStorage."""
    with open_remote(stage, url) as stream:
        try:
            content = read_wheel(stream)
        except (zipfile.BadZipFile, OSError) as exc:
            raise BadGateway(f"{exc}, getting {url}", url=url) from exc
    if content is None:
        raise BadGateway(f"no metadata in {url}", code=404, url=url)
    return content


def limited(pieces: Iterable[bytes], url: Any) -> bytes:
    """Return the pieces of core metadata as one. Raises BadGateway if it is too large."""
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > METADATA_LIMIT:
            raise BadGateway(f"more than {METADATA_LIMIT} bytes of metadata in {url}", code=502, url=url)
    return bytes(content)


def fetch_metadata(stage: Any, url: Any) -> bytes:
    """Return the core metadata that the upstream has at ``url``. Raises BadGateway."""
    # No header of the client's is sent to the upstream.
    with closing(stream_remote_file(stage, url, {"Accept-Encoding": "gzip"})) as answer:
        headers = next(answer)
        content = limited(answer, url)
    if headers.get("content-encoding") != "gzip":
        return content
    try:
        return limited([zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(content, METADATA_LIMIT + 1)], url)
    except zlib.error as exc:
        raise BadGateway(f"{exc}, getting {url}", url=url) from exc


def find_metadata(stage: Any, url: Any, wheel: Any) -> bytes:
    """Return the core metadata at ``url``, or that in the wheel. Raises BadGateway and HTTPInsufficientStorage."""
    try:
        return fetch_metadata(stage, url)
    except BadGateway as exc:
        # An object store answers 403 where other servers answer 404.
        if exc.code not in (403, 404):
            raise
    return read_metadata(stage, wheel)


def iter_core_metadata(stage: Any, url: Any, headers: Mapping[str, str]) -> Iterator[Any]:
    """Yield the headers of core metadata, and then its content. Raises BadGateway and HTTPInsufficientStorage."""
    wheel = url.replace(path=url.path.removesuffix(".metadata"))
    try:
        content = find_metadata(stage, url, wheel)
    except httpx.HTTPError as exc:
        raise BadGateway(f"{exc!r}, getting {url}", url=url) from exc
    if not is_of_wheel(content, wheel.basename):
        raise BadGateway(f"the metadata at {url} is that of another package or version", code=502, url=url)
    yield {"content-type": "application/octet-stream", "content-length": str(len(content))}
    yield content


def iter_new_file(stage: Any, entry: Any, url: Any) -> Iterator[Any]:
    """Yield the headers of a file at the upstream, and then its content. Raises BadGateway and HTTPInsufficientStorage."""
    answer = cache_remote_file(stage, entry, url)
    headers = next(answer, {})
    try:
        require_room(entry.basename, COPIES * int(headers.get("content-length") or 0))
    except HTTPInsufficientStorage:
        answer.close()
        raise
    yield headers
    yield from answer


def serve_and_prefetch(self: Any, entry: Any, *, is_metadata: bool = False) -> Any:
    """Serve a file, and prefetch what its metadata makes an installer request next."""
    response = serve_file(self, entry, is_metadata=is_metadata)
    if is_metadata and response.status_code == 200 and self.request.headers.get("X-Prefetch"):
        ahead.go_on_from(self.request.path_info, response.body)
    return response


def serve_compressed(self: Any) -> Any:
    """Serve the page of a project, in the mirror index compressed for who takes that."""
    response = serve_page(self)
    if self.request.path_info.startswith(PAGES) and "gzip" in self.request.headers.get("Accept-Encoding", ""):
        response.body = gzip.compress(response.body, 6)
        response.content_encoding = "gzip"
    return response


def make_short_url_factory(self: Any) -> Callable[[str], URL]:
    """Return what makes the URL of a link in a page: in the mirror index the one without a plus sign."""
    make_url = make_url_factory(self)
    if self._use_absolute_urls or not self.request.path_info.startswith(PAGES):
        return make_url

    def make_short_url(href: str) -> URL:
        return URL(f"../../-f/{href.removeprefix(FILES)}") if href.startswith(FILES) else make_url(href)

    return make_short_url


if __name__ == "__main__":
    recovery.install(request_scrub)
    # What has been loaded by now stays: it need not be looked through again and again for what can be freed.
    gc.freeze()
    if MAJOR < 7:
        keyfs.TxNotificationThread._execute_hooks = tell_of_files
        keyfs.iter_serial_and_value_backwards = read_remembered
        Writer.commit = commit_and_remember
    URL.replace = replace_part
    URL.joinpath = join
    if not os.environ.get("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS"):
        IndexCustomizer.get_principals_for_toxresult_upload = name_test_result_uploaders
    HTTPClient.__init__ = set_up_authenticating_client
    HTTPClient.async_client = async_client
    httpx.Response.iter_raw = iter_raw
    views.tween_keyfs_transaction = make_user_tween
    users.verify_and_update_password_hash = check_password_in_turn
    views.get_core_metadata = get_core_metadata
    views.PyPIView._pkgserv = serve_and_prefetch
    views.PyPIView.simple_list_project = serve_compressed
    views.PyPIView._makeurl_factory = make_short_url_factory
    views.iter_stream_remote_file = iter_core_metadata
    fetching.iter_cache_remote_file = iter_new_file
    sys.argv[0] = "devpi-server"
    try:
        sys.exit(main())
    except sqlite3.DatabaseError as exc:
        sys.exit(
            f"The database of this mirror is damaged ({exc}). What is cached is served. Restore a backup: ansible-playbook "
            "devpi.mirror.restore -e devpi_server_restore_file=FILE. Without one: ansible-playbook devpi.mirror.remove -e "
            "devpi_server_remove_data=true, and devpi.mirror.site"
        )
