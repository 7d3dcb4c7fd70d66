"""What the image's server.py changes in devpi-server, against the devpi-server that the image has."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from devpi_common.url import URL
from devpi_server import httpclient, views
from pyramid.response import Response
from zips import CORRUPT, OWN, metadata_of


@pytest.fixture
def server(load, monkeypatch):
    module = load("server")
    monkeypatch.setattr(module, "disk", lambda: {"free": 10**12, "total": 10**12})
    return module


LINK = ("STAGEFILE", -1, {"url": "http://upstream/six-1.0.tar.gz", "project": "six"})
PAGE = [LINK, ("PYPIFILE_NOMD5", -1, LINK[2]), ("PROJSIMPLELINKS", 3, {"links": []}), ("PROJNAMES", 3, {"six"})]
OTHERS = [
    ("STAGEFILE", 3, {**LINK[2], "last_modified": "now"}),
    ("STAGEFILE", 3, {"project": "ours", "last_modified": "now"}),
    ("STAGEFILE", 3, {}),
    ("STAGEFILE", 3, None),
    ("PROJVERSION", 3, {"name": "ours"}),
    ("USER", 3, {"indexes": {}}),
]


@pytest.mark.parametrize(("changes", "told"), [(PAGE, False), *(([*PAGE, other], True) for other in OTHERS)])
def test_devpi_looks_for_files_but_those_that_are_only_promised(server, monkeypatch, changes, told):
    seen = []
    monkeypatch.setattr(server, "commit", lambda writer, serial: None)
    monkeypatch.setattr(server, "execute_hooks", lambda *asked, **options: seen.append((*asked, options)))
    storage = SimpleNamespace(_changelog_cache=SimpleNamespace(put=lambda serial, changes: None))
    server.commit_and_remember(SimpleNamespace(changes=dict(enumerate(changes)), storage=storage), 7)
    server.tell_of_files("notifier", 7, "log", raising=True)
    assert seen == ([("notifier", 7, "log", {"raising": True})] if told else [])
    # What was there when devpi started.
    server.tell_of_files("notifier", 7, "log", raising=True)
    assert len(seen) == (2 if told else 1)


BASES = [
    "http://upstream/simple/six/",
    "https://u:p@upstream:8080/simple/six/index.html#a",
    "http://upstream/simple/?a=b",
]
PATHS = [
    "https://files.example/six-1.0.tar.gz#sha256=ab", "http://files.example/six-1.0.tar.gz?a=b", "/files/six-1.0+cpu.whl",
    "//files.example/six-1.0.whl", "../../files/six-1.0.whl", "/files/../six-1.0.whl", "six-1.0.whl", "", "#md5=ab",
    "/a%20b/six.whl#sha256=ab",
]  # fmt: skip


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("path", PATHS)
def test_urls_are_joined_as_by_devpi(server, base, path):
    joined = server.join(URL(base), path)
    assert joined.url == URL(base).joinpath(path).url
    for fragment in ("sha256=cd", ""):
        assert server.replace_part(joined, fragment=fragment).url == joined.replace(fragment=fragment).url
    assert server.join(URL(base), path, "b", asdir=True).url == URL(base).joinpath(path, "b", asdir=True).url
    assert server.replace_part(joined, path="/b").url == joined.replace(path="/b").url


@pytest.mark.parametrize(
    ("path", "accepted", "is_compressed"),
    [
        ("/root/pypi/+simple/six/", "gzip", True),
        ("/root/pypi/+simple/six/", "identity", False),
        ("/ada/dev/+simple/six/", "gzip", False),
    ],
)
def test_pages_of_the_mirror_are_compressed_and_tell_their_length(server, monkeypatch, path, accepted, is_compressed):
    body = b"links" * 100
    monkeypatch.setattr(server, "serve_page", lambda view: Response(app_iter=iter([body]), content_type="text/html"))
    request = SimpleNamespace(path_info=path, headers={"Accept-Encoding": accepted})
    response = server.serve_compressed(SimpleNamespace(request=request))
    assert response.content_encoding == ("gzip" if is_compressed else None)
    if is_compressed:
        assert gzip.decompress(response.body) == body
        assert response.content_length == len(response.body) < len(body)


@pytest.mark.parametrize(
    ("path", "absolute", "href", "url"),
    [
        ("/root/pypi/+simple/six/", False, "root/pypi/+f/ab/cd/six-1.0.whl#sha256=ab", "../../-f/ab/cd/six-1.0.whl#sha256=ab"),
        ("/root/pypi/+simple/six/", False, "root/pypi/+e/six-1.0.whl", "../../+e/six-1.0.whl"),
        ("/ada/dev/+simple/six/", False, "ada/dev/+f/ab/cd/six-1.0.whl", "../../+f/ab/cd/six-1.0.whl"),
        ("/root/pypi/+simple/six/", True, "root/pypi/+f/ab/six-1.0.whl", "http://mirror/root/pypi/+f/ab/six-1.0.whl"),
    ],
)  # fmt: skip
def test_links_in_pages_of_the_mirror_have_no_plus_sign(server, path, absolute, href, url):
    request = SimpleNamespace(path_info=path, application_url="http://mirror")
    view = SimpleNamespace(request=request, _use_absolute_urls=absolute)
    assert server.make_short_url_factory(view)(href).url == url


def test_pages_are_fetched_by_one_client(server):
    client = httpclient.HTTPClient(component_name="test", timeout=1)

    async def twice() -> list:
        seen = []
        for _page in range(2):
            async with server.async_client(client) as lent:
                seen.append(lent)
        return [*seen, lent.is_closed]

    first, second, closed = asyncio.run(twice())
    assert first is second
    assert not closed


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a response, which httpx expands as it reads it."""

    def __init__(self, content: bytes) -> None:
        self.pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
        self.is_closed = False

    def __iter__(self):
        return iter(self.pieces)

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def fetch_page(server, monkeypatch, *responses: tuple[int, dict[str, str], bytes]) -> bytes:
    """Return the page that devpi gets if the upstream sends these responses, and check that all were closed."""
    sent = []
    answers = iter(responses)

    def answer(request):
        assert request.headers["Accept-Encoding"] == "gzip"
        status, headers, content = next(answers)
        sent.append(Pieces(content))
        return httpx.Response(status, headers=headers, stream=sent[-1])

    async def get() -> bytes:
        client = httpclient.HTTPClient(component_name="test", timeout=1)
        response, _text = await client.async_get("http://upstream/simple/six/", allow_redirects=True)
        return response.content

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(server, "make_client", lambda client: httpx.AsyncClient(transport=transport))
    monkeypatch.setattr(httpclient.HTTPClient, "async_client", server.async_client)
    try:
        return asyncio.run(get())
    finally:
        assert [stream.is_closed for stream in sent] == [True] * len(responses)


REDIRECT = {"Location": "http://upstream/simple/six"}
GZIP = {"Content-Encoding": "gzip"}


def test_pages_are_expanded_up_to_a_limit(server, monkeypatch):
    monkeypatch.setattr(server, "PAGE_LIMIT", 5000)
    page = bytes(range(250)) * 20
    assert fetch_page(server, monkeypatch, (200, {}, page)) == page
    assert fetch_page(server, monkeypatch, (200, GZIP, gzip.compress(page))) == page
    assert fetch_page(server, monkeypatch, (302, REDIRECT, b"moved"), (200, GZIP, gzip.compress(page))) == page
    # The body of a redirect is not expanded.
    bomb = gzip.compress(bytes(1_000_000))
    assert fetch_page(server, monkeypatch, (302, {**REDIRECT, **GZIP}, bomb), (200, {}, page)) == page


@pytest.mark.parametrize(
    ("headers", "content", "reason"),
    [
        pytest.param({}, bytes(5001), "more than", id="identity"),
        pytest.param(GZIP, gzip.compress(bytes(5001)), "more than", id="gzip"),
        pytest.param(GZIP, gzip.compress(bytes(100_000_000)), "more than", id="bomb"),
        pytest.param(GZIP, gzip.compress(b"") + bytes(5001), "more than", id="after the end"),
        pytest.param(GZIP, gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 1001, "more than", id="empty blocks"),
        pytest.param(GZIP, b"no gzip", "incorrect header", id="no gzip"),
        pytest.param({"Content-Encoding": "deflate"}, zlib.compress(b""), "'deflate'", id="deflate"),
        pytest.param({"Content-Encoding": "gzip, gzip"}, gzip.compress(b""), "'gzip, gzip'", id="gzip twice"),
    ],
)
@pytest.mark.parametrize("status", [200, 404])
def test_larger_pages_and_other_encodings_are_errors_of_the_upstream(
    server, monkeypatch, status, headers, content, reason
):
    monkeypatch.setattr(server, "PAGE_LIMIT", 5000)
    with pytest.raises(server.UpstreamError, match=f"{reason}.*http://upstream/simple/six/"):
        fetch_page(server, monkeypatch, (status, headers, content))


@pytest.mark.parametrize(
    "content",
    [b"{}," * 50, b"1," * 101, b"<a>" * 20, b"<a" + b" x" * 40_000, gzip.compress(b"[]," * 50)],
)
def test_pages_with_too_many_values_are_errors_of_the_upstream(server, monkeypatch, content):
    monkeypatch.setattr(server, "COMPLEXITY_LIMIT", 100)
    headers = GZIP if content.startswith(b"\x1f") else {}
    with pytest.raises(server.UpstreamError, match="too many values"):
        fetch_page(server, monkeypatch, (200, headers, content))


def test_an_error_has_no_credentials_of_a_redirect(server, monkeypatch):
    redirect = {"Location": "http://bob:secret@storage/simple/six?token=secret"}
    with pytest.raises(server.UpstreamError) as caught:
        fetch_page(server, monkeypatch, (302, redirect, b""), (200, GZIP, b"no gzip"))
    assert str(caught.value).endswith("getting http://storage/simple/six")


def test_a_redirect_to_a_file_is_limited_and_the_file_is_not(server, monkeypatch):
    monkeypatch.setattr(server, "PAGE_LIMIT", 5000)
    bodies = {"/small": gzip.compress(bytes(1_000_000)), "/large": bytes(5001), "/file": gzip.compress(bytes(9000))}

    def answer(request):
        path = request.url.path
        headers = dict(GZIP) if path != "/large" else {}
        status = 200 if path == "/file" else 302
        return httpx.Response(status, headers={**headers, "Location": "/file"}, stream=Pieces(bodies[path]))

    hooks = {"response": [server.limit_response]}
    client = httpx.Client(transport=httpx.MockTransport(answer), event_hooks=hooks, follow_redirects=True)
    with client.stream("GET", "http://upstream/small") as response:
        assert b"".join(response.iter_raw()) == bodies["/file"]
        assert response.headers["Content-Encoding"] == "gzip"
    with pytest.raises(views.BadGateway, match="more than"), client.stream("GET", "http://upstream/large"):
        pass
    with pytest.raises(views.BadGateway, match="more than"):
        client.post("http://upstream/large")


def test_few_passwords_are_compared_at_a_time(server, monkeypatch):
    running, most = [], []

    def compare(_password):
        running.append(True)
        most.append(len(running))
        arrived.wait(0.05)
        running.pop()

    arrived = threading.Event()
    monkeypatch.setattr(server, "check_password", compare)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(server.check_password_in_turn, range(10)))
    assert max(most) == server.PASSWORDS


@pytest.mark.parametrize(
    ("path", "anonymous", "is_needed"),
    [
        ("/+login", "", False),
        ("/alice", "", False),
        ("/alice/private", "", True),
        ("/root/pypi/", "", True),
        ("/alice/private/+f/012/3456789abcdef/a.whl", "", True),
        ("/alice/private/+f/012/3456789abcdef/a.whl", "1", False),
        ("/root/pypi/+e/http_a/a.zip", "1", True),
    ],
)
def test_who_may_change_an_index(server, monkeypatch, path, anonymous, is_needed):
    monkeypatch.setenv("DEVPI_MIRROR_ANONYMOUS_TEST_RESULTS", anonymous)
    for method, is_change in (("GET", False), ("HEAD", False), ("POST", True)):
        request = SimpleNamespace(method=method, path_info=path)
        assert server.needs_user(request) == (is_needed and is_change)


WHEEL = URL("http://upstream/files/alpha-1.0-py3-none-any.whl")


def wheel(names: list[str], padding: int = 0) -> bytes:
    """Return a wheel whose files say what they are called, with bytes that can't be compressed at its end."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, metadata_of("alpha", "1.0") if name == OWN else name)
        archive.writestr("padding", bytes(padding))
    return stream.getvalue()


class Upstream:
    """What devpi asks its upstream with. It has the files, by path, and tells which parts of which it was asked for."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True, absent: int = 404, encoding: str = "") -> None:
        self.files = files
        self.ranges = ranges
        self.absent = absent
        self.headers = {"content-encoding": encoding}
        self.seen: list[str] = []
        self.http = self

    def stream(self, stack, method, url, *, allow_redirects, extra_headers):
        assert set(extra_headers) <= {"Range", "Accept-Encoding"}
        path, wanted = URL(url).path, extra_headers.get("Range", "")
        self.seen.append(f"{Path(path).suffix} {wanted}".strip())
        status, headers, content = (
            (200, self.headers, self.files[path]) if path in self.files else (self.absent, {}, b"")
        )
        if content and wanted and self.ranges:
            first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()
            start, end = (int(first), int(last) + 1) if first else (max(len(content) - int(last), 0), len(content))
            status, headers = 206, {"content-range": f"bytes {start}-{end - 1}/{len(content)}"}
            content = content[start:end]
        return SimpleNamespace(
            status_code=status, headers=headers, iter_raw=lambda size=0: iter([content]), close=lambda: None
        )


def metadata(server, upstream: Upstream) -> bytes:
    answer = server.iter_core_metadata(
        upstream, WHEEL.replace(path=WHEEL.path + ".metadata"), {"cookie": "of a client"}
    )
    next(answer)
    return b"".join(answer)


@pytest.mark.parametrize("absent", [403, 404])
@pytest.mark.parametrize(
    ("content", "ranges", "parts"),
    [
        (wheel([OWN]), True, 1),
        (wheel(["alpha/_vendor/other-2.0.dist-info/METADATA", OWN]), True, 1),
        (wheel([OWN], 300_000), True, 2),
        (wheel([OWN], 300_000), False, 1),
    ],
)
def test_metadata_that_the_upstream_lacks_is_read_from_the_wheel(server, content, ranges, parts, absent):
    upstream = Upstream({WHEEL.path: content}, ranges, absent)
    assert metadata(server, upstream) == metadata_of("alpha", "1.0")
    assert upstream.seen[:2] == [".metadata", ".whl bytes=-65536"]
    assert len(upstream.seen) == 1 + parts


def test_metadata_of_the_upstream_comes_first(server):
    own = metadata_of("alpha", "1.0") + b"Summary: the upstream's\n"
    upstream = Upstream({WHEEL.path: wheel([OWN]), WHEEL.path + ".metadata": own})
    assert metadata(server, upstream) == own
    assert upstream.seen == [".metadata"]


@pytest.mark.parametrize(
    ("content", "is_refused"),
    [
        pytest.param(metadata_of("Alpha", "1.0.0"), False, id="another spelling"),
        pytest.param(metadata_of("beta", "1.0"), True, id="another name"),
        pytest.param(metadata_of("alpha", "1.1"), True, id="another version"),
        pytest.param(b"Name: alpha\n", True, id="no version"),
        pytest.param(b"<html>", True, id="no metadata"),
        pytest.param(metadata_of("alpha", "1.0") + bytes(16_000_000), True, id="too large"),
    ],
)
def test_metadata_that_is_not_of_the_wheel_is_refused(server, content, is_refused):
    upstream = Upstream({WHEEL.path + ".metadata": content})
    if is_refused:
        with pytest.raises(views.BadGateway):
            metadata(server, upstream)
    else:
        assert metadata(server, upstream) == content


@pytest.mark.parametrize(
    ("wheel", "version"),
    [
        ("alpha-1.0_1-py3-none-any.whl", "1.0-1"),
        ("alpha-1.0+local_1-py3-none-any.whl", "1.0+local-1"),
        ("alpha-2004d-1-py3-none-any.whl", "2004d"),
        ("al.pha-1.0-1-py3-none-any.whl", "1.0"),
    ],
)
def test_names_and_versions_are_compared_as_file_names_spell_them(server, wheel, version):
    assert server.is_of_wheel(metadata_of(wheel.split("-")[0], version), wheel)


@pytest.mark.parametrize("content", CORRUPT)
@pytest.mark.parametrize("ranges", [False, True])
def test_a_corrupt_wheel_is_an_error_of_the_upstream(server, content, ranges):
    with pytest.raises(views.BadGateway):
        metadata(server, Upstream({WHEEL.path: content}, ranges))


@pytest.mark.parametrize(
    ("length", "free", "is_refused"),
    [
        ("1000", 64_001_000, False),
        ("1001", 64_001_000, True),
        # Without a length, it is checked while it arrives.
        (None, 70_000_000, False),
        (None, 64_000_000, True),
    ],
)
def test_a_wheel_that_has_no_room_is_refused(server, monkeypatch, length, free, is_refused):
    content = wheel([OWN])
    upstream = Upstream({WHEEL.path: content}, ranges=False)
    upstream.headers = {"content-length": length} if length else {}
    monkeypatch.setattr(server, "disk", lambda: {"free": free})
    if is_refused:
        with pytest.raises(server.HTTPInsufficientStorage, match="no room for alpha"):
            metadata(server, upstream)
    else:
        assert metadata(server, upstream) == metadata_of("alpha", "1.0")


@pytest.mark.parametrize("headers", [{}, {"content-range": "bytes 0-9/*"}])
def test_a_part_without_the_size_of_the_whole_is_an_error_of_the_upstream(server, headers):
    upstream = Upstream({})
    part = SimpleNamespace(status_code=206, headers=headers, iter_raw=lambda: iter([b"part"]))
    absent = SimpleNamespace(status_code=404, headers={}, close=lambda: None)
    upstream.stream = lambda *_arguments, extra_headers, **_options: part if "Range" in extra_headers else absent
    with pytest.raises(views.BadGateway, match="no size of the whole file"):
        metadata(server, upstream)


def test_a_connection_that_breaks_off_is_an_error_of_the_upstream(server):
    def break_off(*_arguments, **_options):
        raise httpx.ReadError("broken")

    upstream = Upstream({})
    upstream.stream = break_off
    with pytest.raises(views.BadGateway, match="ReadError"):
        metadata(server, upstream)


@pytest.mark.parametrize("is_large", [False, True])
def test_compressed_metadata_is_expanded_up_to_a_limit(server, is_large):
    content = metadata_of("alpha", "1.0") + b"\n" + bytes(100_000_000 if is_large else 0)
    upstream = Upstream({WHEEL.path + ".metadata": gzip.compress(content)}, encoding="gzip")
    if is_large:
        with pytest.raises(views.BadGateway, match="more than"):
            metadata(server, upstream)
    else:
        assert metadata(server, upstream) == content


@pytest.mark.parametrize(
    ("upstream", "code"),
    [
        (Upstream({}), 404),
        (Upstream({}, absent=503), 503),
        (Upstream({WHEEL.path: b"no archive" * 100}), None),
        (Upstream({WHEEL.path: wheel(["alpha.py"])}), 404),
    ],
)
def test_metadata_that_is_nowhere_is_an_error(server, upstream, code):
    with pytest.raises(views.BadGateway) as caught:
        metadata(server, upstream)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("length", "free", "is_refused"), [(1000, 200_000_000, False), (60_000_000, 200_000_000, True), (None, 1000, True)]
)
def test_a_file_that_has_no_room_is_refused_before_it_comes(server, monkeypatch, length, free, is_refused):
    headers = {} if length is None else {"content-length": str(length)}
    monkeypatch.setattr(server, "cache_remote_file", lambda stage, entry, url: iter_and_close([headers, b"content"]))
    monkeypatch.setattr(server, "disk", lambda: {"free": free, "total": free})
    answer = server.iter_new_file(
        None, SimpleNamespace(basename="alpha-1.0.tar.gz"), URL("http://upstream/alpha-1.0.tar.gz")
    )
    if is_refused:
        with pytest.raises(server.HTTPInsufficientStorage, match="no room for alpha"):
            next(answer)
    else:
        assert list(answer) == [headers, b"content"]


def iter_and_close(items):
    yield from items


@pytest.mark.parametrize(("asked", "followed"), [({"X-Prefetch": "1"}, 1), ({}, 0)])
def test_prefetching_is_done_for_installers(server, monkeypatch, asked, followed):
    response = SimpleNamespace(status_code=200, headers={}, body=b"text")
    seen = []
    monkeypatch.setattr(server, "serve_file", lambda view, entry, is_metadata: response)
    monkeypatch.setattr(server, "ahead", SimpleNamespace(go_on_from=lambda *told: seen.append(told)))
    view = SimpleNamespace(request=SimpleNamespace(headers=asked, path_info="/path"))
    assert server.serve_and_prefetch(view, None, is_metadata=True) is response
    assert server.serve_and_prefetch(view, None) is response
    assert seen == [("/path", b"text")] * followed


class Connection:
    """A database whose changes can be read, and which tells how often each transaction's were."""

    def __init__(self, changes):
        self.changes = changes
        self.read = []

    def get_changes(self, serial):
        self.read.append(serial)
        return self.changes[serial]


def test_what_was_written_last_is_remembered(server, monkeypatch):
    monkeypatch.setattr(server, "commit", lambda writer, serial: "told")
    cached = {}
    storage = SimpleNamespace(_changelog_cache=SimpleNamespace(put=cached.__setitem__))
    # In the order of a set, as devpi writes them.
    names = [f"root/pypi/+f/{number}" for number in range(300)]
    changes = {"root/pypi/.projects": ("PROJNAMES", 3, {"six"})}
    changes |= {name: ("STAGEFILE", -1, {"project": name}) for name in reversed(names)}
    changes["root/pypi/six/.simple"] = (
        "PROJSIMPLELINKS",
        3,
        {"links": [("six", name + "#sha256=ab") for name in names]},
    )
    assert server.commit_and_remember(SimpleNamespace(changes=changes, storage=storage), 7) == "told"
    assert set(cached) == {7}
    connection = Connection({7: changes, 3: {"root/pypi/.projects": ("PROJNAMES", -1, set())}})
    assert next(server.read_remembered(connection, names[299], 7)) == (7, -1, {"project": names[299]})
    assert next(server.read_remembered(connection, "root/pypi/.projects", 7))[2] == {"six"}
    assert connection.read == []
    # What is not remembered is read, and remembered then; so is what was before, which is not the last.
    for _time in range(2):
        assert next(server.read_remembered(connection, names[1], 7))[2] == {"project": names[1]}
    assert set(connection.read) == {7}
    assert [change[0] for change in server.read_remembered(connection, "root/pypi/.projects", 7)] == [7, 3]
    assert [change[0] for change in server.read_remembered(connection, "root/pypi/.projects", 3)] == [3]
    # Pages are large.
    for _time in range(2):
        before = len(connection.read)
        assert (
            next(server.read_remembered(connection, "root/pypi/six/.simple", 7))[2]
            == changes["root/pypi/six/.simple"][2]
        )
        assert len(connection.read) > before
