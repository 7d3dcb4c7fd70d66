# SPDX-License-Identifier: GPL-3.0-or-later
"""How the image's downloads.py streams a file to clients while it is downloaded."""

from __future__ import annotations

import gc
import hashlib
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from devpi_mirror import config, downloads
from devpi_mirror.digests import ALGORITHMS
from devpi_mirror.downloads import DiskFullError, Download, Downloads, IncompleteError, Job, Source
from devpi_mirror.links import Link, Target
from devpi_mirror.upstream import Upstream, UpstreamError
from fake_upstream import send_slowly, serving

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Downloads from an upstream that responds with ``answer``. ``stored`` has the contents of the stored files.

    ``path`` is the path of the file once it is stored.
    """
    monkeypatch.setattr("devpi_mirror.upstream.PAUSE", 0)
    monkeypatch.setattr(downloads, "free_bytes", lambda _folder: 10**12)
    state = SimpleNamespace(answer=lambda handler: handler.send(200, CONTENT), stored=[])

    def answer(handler):
        state.answer(handler)

    with serving(answer) as server:
        state.server = server
        upstream = Upstream(server.url)

        def link_to(url, find_current=lambda: None):
            """Return the link to a file of this URL, which the URL of ``find_current`` replaces if the upstream denies it."""

            def find_target():
                current = find_current()
                return current and Target(upstream, {"url": current})

            return Link(Target(upstream, {"url": url}), find_target)

        state.link_to = link_to
        registry = Downloads(tmp_path / "tmp")

        def store(path, digests):
            state.stored.append(path.read_bytes())
            assert digests["sha256"] == hashlib.sha256(state.stored[-1]).hexdigest()

        def job(source=None):
            source = source or Source(link_to(server.url + "a.whl"), len(CONTENT), {"sha256": SHA256})
            return Job(tmp_path / "stored", source, store)

        state.registry, state.path, state.job = registry, tmp_path / "stored", job
        state.start = lambda source=None, **options: registry.start(job(source), **options)
        yield state
        registry.pool.shutdown()
        registry.prefetching.shutdown()
        upstream.close()
    assert registry.running == {}
    assert list((tmp_path / "tmp").iterdir()) == []


def await_end(download) -> None:
    with download.changed:
        assert download.changed.wait_for(lambda: download.is_whole or download.error, 30)


def await_no_download(mirror) -> None:
    while mirror.registry.running:
        pass


def in_turn(answers: list):
    """Return an answer that calls the next one of ``answers`` for each request."""

    def answer(handler):
        answers.pop(0)(handler)

    return answer


def in_parts(*sizes: int, total: int | None = None):
    """Return an answer that sends a part of the content from the requested start, and then disconnects."""
    remaining = list(sizes)

    def answer(handler):
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        size = remaining.pop(0) if remaining else len(CONTENT)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str((total or len(CONTENT)) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start : start + size])
        handler.close_connection = True

    return answer


def send_chunked(handler, content: bytes) -> None:
    """Send a response without its size."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))


def test_a_file_is_sent_and_stored(mirror):
    download = mirror.start()
    download.await_response()
    assert download.size == len(CONTENT)
    assert b"".join(download.read()) == CONTENT
    assert mirror.stored == [CONTENT]
    assert mirror.server.requests[0][2]["Accept-Encoding"] == "identity"


def test_clients_get_bytes_while_the_file_arrives(mirror):
    is_released = threading.Event()
    mirror.answer = send_slowly(CONTENT, 1000, is_released)
    clients = [mirror.start() for _client in range(3)]
    assert len({id(download) for download in clients}) == 1
    readers = [download.read() for download in clients]
    early = [next(reader) for reader in readers]
    assert all(part and CONTENT.startswith(part) for part in early)
    # A client that disconnects does not stop the download.
    readers[0].close()
    is_released.set()
    assert [part + b"".join(reader) for part, reader in zip(early[1:], readers[1:], strict=True)] == [CONTENT] * 2
    assert len(mirror.server.requests) == 1


@pytest.mark.parametrize(("start", "end"), [(0, 10), (5, 6), (1000, None), (len(CONTENT) - 1, None), (0, len(CONTENT))])
def test_a_part_is_sent(mirror, start, end):
    assert b"".join(mirror.start().read(start, end)) == CONTENT[start:end]


@pytest.mark.parametrize("sizes", [(1000,), (1, 1, 70_000), (len(CONTENT) - 1,)])
def test_an_interrupted_download_is_resumed(mirror, sizes):
    mirror.answer = in_parts(*sizes)
    assert b"".join(mirror.start().read()) == CONTENT
    ranges = [headers.get("Range") for _method, _path, headers in mirror.server.requests]
    received = [sum(sizes[:count]) for count in range(1, len(sizes) + 1)]
    assert ranges == [None, *(f"bytes={count}-" for count in received)]
    assert mirror.stored == [CONTENT]


def test_a_download_that_is_interrupted_before_its_first_byte_is_tried_again(mirror):
    mirror.answer = in_parts(0, 0)
    assert b"".join(mirror.start().read()) == CONTENT
    assert [headers.get("Range") for _method, _path, headers in mirror.server.requests] == [None] * 3


def test_an_upstream_that_ignores_a_range_is_read_again(mirror):
    answers = [in_parts(5000), lambda handler: handler.send(200, CONTENT)]
    mirror.answer = in_turn(answers)
    assert b"".join(mirror.start().read()) == CONTENT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (in_parts(5000, *[0] * 20), "can't be reached|sent 5000 of"),
        (lambda handler: handler.send(200, CONTENT[:-1] + b"x"), "has the sha256 .* instead of"),
        (lambda handler: handler.send(200, CONTENT[:-1]), "instead of 1024000"),
        (lambda handler: handler.send(200, CONTENT, Content_Encoding="br"), "encoding that was not requested"),
        (lambda handler: handler.send(404), "responded with status 404"),
        (lambda handler: handler.send(304), "responded with status 304"),
        (lambda handler: handler.send(206, CONTENT, Content_Range="bytes 5-9/10"), "another part"),
    ],
)
def test_no_response_with_other_content_completes(mirror, answer, reason):
    mirror.answer = answer
    download = mirror.start()
    received = []
    with pytest.raises(IncompleteError, match=reason):
        received.extend(download.read())
    assert len(b"".join(received)) < len(CONTENT)
    assert mirror.stored == []


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
@pytest.mark.parametrize(
    ("hashes", "reason"),
    [
        ({"sha256": SHA256}, ""),
        ({"sha256": "0" * 64}, "has the sha256 .* instead of"),
        ({}, "encoding that was not requested"),
        ({"blake2b_256": "0" * 64}, "encoding that was not requested"),
    ],
)
def test_a_file_that_is_sent_with_an_encoding_needs_a_hash(mirror, encoding, hashes, reason):
    mirror.answer = lambda handler: handler.send(200, CONTENT, Content_Encoding=encoding)
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.tar.gz"), len(CONTENT), hashes))
    if reason:
        with pytest.raises(UpstreamError, match=reason):
            download.await_end()
    else:
        assert b"".join(download.read()) == CONTENT
    assert mirror.stored == ([] if reason else [CONTENT])


def test_a_file_that_changes_while_it_is_resumed_is_an_error(mirror):
    answers = [in_parts(5000), lambda handler: handler.send(200, CONTENT + b"x")]
    mirror.answer = in_turn(answers)
    with pytest.raises(IncompleteError, match="has changed"):
        b"".join(mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"), None, {"sha256": SHA256})).read())


def interrupted(**headers: str):
    """Return an answer that disconnects after a part of the content."""

    def answer(handler):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:5000])
        handler.close_connection = True

    return answer


@pytest.mark.parametrize("status", [401, 403, 404, 410])
@pytest.mark.parametrize("parts", [[], [5000]])
def test_a_download_follows_a_link_that_has_moved(mirror, status, parts):
    """Before the first byte, and when it is resumed."""
    old, new = (f"{mirror.server.url}{name}.whl" for name in ("old", "new"))
    mirror.answer = in_turn([*([in_parts(*parts)] if parts else []), lambda handler: handler.send(status), in_parts()])
    source = Source(mirror.link_to(old, lambda: new), len(CONTENT), {"sha256": SHA256})
    assert b"".join(mirror.start(source).read()) == CONTENT
    assert mirror.server.paths() == [*["/simple/old.whl"] * (len(parts) + 1), "/simple/new.whl"]
    assert mirror.server.requests[-1][2].get("Range") == (f"bytes={parts[0]}-" if parts else None)


@pytest.mark.parametrize("current", [None, "a.whl"])
def test_a_download_whose_link_has_not_moved_has_the_error_of_the_upstream(mirror, current):
    mirror.answer = lambda handler: handler.send(403)
    url = mirror.server.url
    source = Source(mirror.link_to(url + "a.whl", lambda: current and url + current))
    with pytest.raises(UpstreamError) as caught:
        mirror.start(source).await_end()
    assert (caught.value.status, mirror.server.paths()) == (403, ["/simple/a.whl"])


def rest(status: int, **headers: str):
    """Return an answer that sends the rest of the content, or all of it."""
    if status == 206:
        headers["Content_Range"] = f"bytes 5000-{len(CONTENT) - 1}/{len(CONTENT)}"
    return lambda handler: handler.send(status, CONTENT[5000 if status == 206 else 0 :], **headers)


TAG, OTHER_TAG = {"ETag": '"1"'}, {"ETag": '"2"'}
DATE = {"Last_Modified": "Fri, 27 Nov 2026 10:00:00 GMT"}
OTHER_DATE = {"Last_Modified": "Fri, 27 Nov 2026 10:00:01 GMT"}
WEAK_TAG = {"ETag": 'W/"1"'}


@pytest.mark.parametrize(
    ("first", "condition", "second", "is_same"),
    [
        (TAG, '"1"', rest(206, **TAG), True),
        (TAG | DATE, '"1"', rest(206, **TAG), True),
        (TAG | DATE, '"1"', rest(200, **TAG, **DATE), True),
        (DATE, DATE["Last_Modified"], rest(206), True),
        (WEAK_TAG | DATE, DATE["Last_Modified"], rest(206, **WEAK_TAG, **DATE), True),
        (TAG, '"1"', rest(206, **OTHER_TAG), False),
        (TAG, '"1"', rest(206, **WEAK_TAG), False),
        (TAG, '"1"', rest(200, **OTHER_TAG), False),
        (TAG, '"1"', rest(200), False),
        (DATE, DATE["Last_Modified"], rest(206, **OTHER_DATE), False),
        (DATE, DATE["Last_Modified"], rest(200, **OTHER_DATE), False),
    ],
)
def test_a_file_without_a_hash_is_resumed_if_it_has_not_changed(mirror, first, condition, second, is_same):
    mirror.answer = in_turn([interrupted(**first), second])
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"), len(CONTENT)))
    if is_same:
        assert b"".join(download.read()) == CONTENT
    else:
        with pytest.raises(UpstreamError, match="the file has changed at the upstream"):
            download.await_end()
    headers = mirror.server.requests[1][2]
    assert (headers["Range"], headers["If-Range"]) == ("bytes=5000-", condition)
    assert mirror.stored == ([CONTENT] if is_same else [])


@pytest.mark.parametrize("first", [{}, WEAK_TAG, {"ETag": "1"}, {"Last_Modified": "yesterday"}])
@pytest.mark.parametrize("hashes", [{}, {"blake2b_256": "0" * 64}])
def test_a_file_without_a_hash_and_a_validator_is_not_resumed(mirror, first, hashes):
    mirror.answer = in_turn([interrupted(**first), rest(206)])
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"), len(CONTENT), hashes))
    with pytest.raises(UpstreamError, match="can't be reached"):
        download.await_end()
    assert len(mirror.server.requests) == 1
    assert mirror.stored == []


def test_a_file_without_a_hash_is_requested_again_before_its_first_byte(mirror):
    mirror.answer = in_parts(0, 0)
    assert b"".join(mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"))).read()) == CONTENT


@pytest.mark.parametrize("is_right", [True, False])
def test_without_a_size_the_end_is_held_back_until_the_hash_is_verified(mirror, is_right):
    content = CONTENT if is_right else CONTENT[:-1] + b"x"

    mirror.answer = lambda handler: send_chunked(handler, content)
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"), None, {"sha256": SHA256}))
    if is_right:
        assert b"".join(download.read()) == CONTENT
    else:
        with pytest.raises(IncompleteError):
            b"".join(download.read())
    assert mirror.stored == ([CONTENT] if is_right else [])


def hashes_of(content: bytes, *algorithms: str) -> dict[str, str]:
    return {algorithm: hashlib.new(algorithm, content).hexdigest() for algorithm in algorithms}


@pytest.mark.parametrize(
    ("hashes", "reason"),
    [
        (hashes_of(CONTENT, *ALGORITHMS), ""),
        ({"sha256": SHA256.upper()}, ""),
        ({"blake2b_256": "0" * 64, "SHA-3": None}, ""),
        ({"blake2b_256": "0" * 64, **hashes_of(b"other", "sha512")}, "has the sha512 .* instead of"),
        ({"sha256": SHA256, **hashes_of(b"other", "md5")}, "has the md5 .* instead of"),
        ({"sha256": "0000000000"}, "lists an invalid sha256 digest"),
        ({"sha256": SHA256 + "\n"}, "lists an invalid sha256 digest"),
        ({"sha256": SHA256, "sha512": SHA256}, "lists an invalid sha512 digest"),
        ({"sha256": "x" * 64}, "lists an invalid sha256 digest"),
        ({"sha256": None}, "lists an invalid sha256 digest"),
    ],
)
def test_all_known_hashes_of_a_file_are_verified(mirror, hashes, reason):
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"), len(CONTENT), hashes))
    if reason:
        with pytest.raises(UpstreamError, match=reason):
            download.await_end()
    else:
        download.await_end()
    assert mirror.stored == ([] if reason else [CONTENT])
    assert bool(mirror.server.requests) == ("invalid" not in reason)


def test_an_error_is_raised_before_the_response_begins(mirror):
    mirror.answer = lambda handler: handler.send(429, Retry_After="9")
    with pytest.raises(UpstreamError) as caught:
        mirror.start().await_response()
    assert (caught.value.status, caught.value.retry_after) == (429, "9")


@pytest.mark.parametrize(
    ("size", "start", "answer", "reason"),
    [
        (None, 0, lambda handler: send_chunked(handler, b"small"), "has the sha256 .* instead of"),
        (5, 0, lambda handler: send_chunked(handler, b"small file"), "has 10 bytes instead of 5"),
        (5, 4, lambda handler: handler.send(200, b"small"), "has the sha256 .* instead of"),
        (1, 0, lambda handler: handler.send(200, b"x"), "has the sha256 .* instead of"),
        (len(CONTENT), 0, in_parts(*[0] * 20), "can't be reached"),
    ],
)
def test_a_failure_before_the_first_byte_is_raised_before_the_response_begins(mirror, size, start, answer, reason):
    mirror.answer = answer
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl"), size, {"sha256": SHA256}))
    with pytest.raises(UpstreamError, match=reason) as caught:
        download.await_first_byte(start)
    assert (caught.value.status, caught.value.retry_after) == (503, "10")


@pytest.mark.parametrize("wait", [lambda download: download.await_first_byte(0), lambda download: download.await_end()])
def test_clients_retry_after_any_failure(mirror, wait):
    mirror.answer = lambda handler: handler.send(200, b"x")
    mirror.stored = None
    download = mirror.start(Source(mirror.link_to(mirror.server.url + "a.whl")))
    with pytest.raises(UpstreamError, match=r"could not download http.*: AttributeError: ") as caught:
        wait(download)
    assert caught.value.status == 503


def test_a_first_byte_that_does_not_arrive_is_an_error(mirror, monkeypatch):
    monkeypatch.setattr(config, "BYTE_TIMEOUT", 0.01)
    is_released = threading.Event()

    def answer(handler):
        assert is_released.wait(30)
        handler.send(404)

    mirror.answer = answer
    try:
        with pytest.raises(UpstreamError, match="no byte has arrived"):
            mirror.start().await_first_byte(0)
    finally:
        is_released.set()


def test_a_full_disk_is_reported_before_the_download(mirror, monkeypatch):
    monkeypatch.setattr(downloads, "free_bytes", lambda _folder: downloads.config.RESERVE + len(CONTENT) - 1)
    download = mirror.start()
    with pytest.raises(DiskFullError, match=r"no room for .*a\.whl"):
        download.await_response()
    await_end(download)
    assert download.received == 0


def test_a_file_that_can_not_be_stored_does_not_complete(mirror):
    mirror.stored = None
    with pytest.raises(IncompleteError):
        b"".join(mirror.start().read())


@pytest.mark.parametrize(
    ("answer", "error", "reported"),
    [
        (lambda handler: handler.send(404), None, "the upstream responded with status 404 Not Found"),
        (in_parts(5000, *[0] * 20), None, r"the upstream can't be reached \(.*\)"),
        (None, OSError(28, "No space left on device"), r"OSError: \[Errno 28\] No space left on device"),
        (None, ValueError("locked\n[parameters: secret]"), "ValueError: locked"),
        (None, KeyError(), "KeyError"),
    ],
)
def test_a_failed_download_is_reported(mirror, tmp_path, capsys, answer, error, reported):
    mirror.answer = answer or mirror.answer
    url = mirror.server.url + "a.whl"
    source = Source(
        mirror.link_to(url.replace("//", "//user:secret@") + "?signature=secret"), len(CONTENT), {"sha256": SHA256}
    )

    def store(_path, _digests):
        raise error

    (tmp_path / "tmp").mkdir()
    download = Download(source, tmp_path / "tmp" / "a.part", store)
    download.run()
    output = capsys.readouterr().out
    assert re.fullmatch(f"Error: could not download {re.escape(url)}: {reported}\n", output)
    assert "secret" not in output


@pytest.mark.parametrize(
    ("hashes", "reason"),
    [
        ({"sha256": "0"}, "could not download a link that is no URL: .* lists an invalid sha256 digest"),
        ({}, "has a link that is no URL"),
    ],
)
def test_a_link_that_is_no_url_is_reported(mirror, capsys, hashes, reason):
    download = mirror.start(Source(mirror.link_to("http://user:secret@upstream:port/a.whl"), None, hashes))
    with pytest.raises(UpstreamError, match=reason):
        download.await_end()
    assert "secret" not in capsys.readouterr().out


def test_a_complete_download_reports_nothing(mirror, capsys):
    mirror.start().await_end()
    assert capsys.readouterr().out == ""


def test_the_end_of_a_download_is_awaited(mirror):
    mirror.start().await_end()
    assert mirror.stored == [CONTENT]


def test_awaiting_the_end_raises_what_the_download_raised(mirror):
    mirror.answer = lambda handler: handler.send(404)
    with pytest.raises(UpstreamError) as caught:
        mirror.start().await_end()
    assert caught.value.status == 404


def test_awaiting_the_end_gives_up_without_a_byte(mirror, monkeypatch):
    monkeypatch.setattr(config, "BYTE_TIMEOUT", 0.01)
    is_released = threading.Event()

    def answer(handler):
        assert is_released.wait(30)
        handler.send(404)

    mirror.answer = answer
    try:
        with pytest.raises(UpstreamError, match="no byte has arrived"):
            mirror.start().await_end()
    finally:
        is_released.set()


def test_a_queued_prefetch_is_sent_to_a_client_at_once(mirror):
    is_released = threading.Event()
    mirror.registry.prefetching.submit(is_released.wait, 30)
    mirror.registry.prefetching.submit(is_released.wait, 30)
    try:
        queued = mirror.start(prefetch=True)
        assert not queued.has_started
        download = mirror.start()
        assert download is queued
        assert b"".join(download.read()) == CONTENT
    finally:
        is_released.set()
    assert len(mirror.server.requests) == 1


def test_a_stored_file_is_not_downloaded_again(mirror):
    mirror.registry.start_missing(mirror.job()).await_end()
    await_no_download(mirror)
    mirror.path.write_bytes(CONTENT)
    assert mirror.registry.start_missing(mirror.job()) is None
    assert mirror.registry.start_missing(mirror.job(), prefetch=True) is None
    assert len(mirror.server.requests) == 1
    mirror.path.unlink()
    again = mirror.registry.start_missing(mirror.job())
    assert b"".join(again.read()) == CONTENT


def test_a_stored_file_is_downloaded_again_on_request(mirror):
    mirror.path.write_bytes(CONTENT)
    mirror.start().await_end()
    assert (len(mirror.server.requests), mirror.stored) == (1, [CONTENT])


def test_a_download_that_has_just_stored_its_file_is_not_repeated(mirror):
    """It is stored before the download ends, so each client gets one of the two."""
    is_released, found = threading.Event(), set()
    mirror.answer = lambda handler: (is_released.wait(30), handler.send(200, CONTENT))
    first = mirror.registry.start_missing(mirror.job())
    first.store = lambda _path, _digests: mirror.path.write_bytes(CONTENT)
    is_released.set()
    while mirror.registry.running:
        found.add(mirror.registry.start_missing(mirror.job()))
    assert found <= {first, None}
    assert mirror.registry.start_missing(mirror.job()) is None
    assert len(mirror.server.requests) == 1


def test_two_workers_run_a_download_once(mirror, monkeypatch):
    is_released, both = threading.Event(), threading.Barrier(2)
    run = Download.run

    def run_together(download):
        # Both workers have checked that the download has not started, if the second one gets here.
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        run(download)

    def answer(handler):
        assert is_released.wait(30)
        handler.send(200, CONTENT)

    monkeypatch.setattr(Download, "run", run_together)
    mirror.answer = answer
    for _thread in range(config.PREFETCHED_DOWNLOADS):
        mirror.registry.prefetching.submit(is_released.wait, 30)
    try:
        download = mirror.start(prefetch=True)
        workers = [threading.Thread(target=mirror.registry.run, args=(mirror.path, download)) for _worker in range(2)]
        for worker in workers:
            worker.start()
        # One of them has nothing to do.
        while all(worker.is_alive() for worker in workers):
            pass
        assert mirror.start() is download
    finally:
        is_released.set()
    for worker in workers:
        worker.join()
    assert b"".join(download.read()) == CONTENT
    assert len(mirror.server.requests) == 1


def test_a_queued_download_has_no_temporary_file(mirror, tmp_path):
    is_released = threading.Event()
    for _thread in range(config.DOWNLOADS):
        mirror.registry.pool.submit(is_released.wait, 30)
    try:
        download = mirror.start()
        for path in (tmp_path / "tmp").iterdir():
            path.unlink()
    finally:
        is_released.set()
    download.await_end()
    assert mirror.stored == [CONTENT]


def test_a_temporary_file_of_an_earlier_process_is_replaced(mirror, tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "stored").write_bytes(b"stored")
    os.link(tmp_path / "stored", tmp_path / "tmp" / f"{os.getpid()}-1.part")
    mirror.start().await_end()
    assert (mirror.stored, (tmp_path / "stored").read_bytes()) == ([CONTENT], b"stored")


def test_a_file_is_downloaded_again_after_a_failure(mirror):
    mirror.answer = lambda handler: handler.send(500)
    first = mirror.start()
    with pytest.raises(UpstreamError):
        first.await_response()
    await_end(first)
    mirror.answer = lambda handler: handler.send(200, CONTENT)

    def whole():
        second = mirror.start()
        return second is not first and b"".join(second.read()) == CONTENT

    # The first download is removed a moment after it has failed.
    while not whole():
        pass


def test_no_file_stays_open(mirror):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _file in range(3):
        assert b"".join(mirror.start().read()) == CONTENT
        await_no_download(mirror)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
