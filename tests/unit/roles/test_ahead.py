"""What the image's ahead.py fetches for whoever asks for one thing after another."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

METADATA = b"""Metadata-Version: 2.1
Name: black
Requires-Dist: click>=8.0.0
Requires-Dist: Typing_Extensions>=4.0.1; python_version < "3.11"
Requires-Dist: aiohttp>=3.10; extra == "d"
Requires-Dist: click!=8.1
Requires-Dist: not a requirement

Requires-Dist: of-the-description
"""
WHEEL = "/root/pypi/+f/0123/4567/black-26.1-py3-none-any.whl"


@pytest.fixture
def module(load):
    return load("ahead")


@pytest.fixture
def ahead(module):
    """Fetch nothing, and tell what would be; ``now`` is the time."""
    seen = []
    made = module.Ahead(seen.append, lambda: made.now)
    made.now = 0.0
    made.seen = seen

    def all_seen():
        for pool in (made.plans, made.pages, made.files):
            pool.shutdown()
        return sorted(seen)

    made.all_seen = all_seen
    return made


def test_projects_that_metadata_requires(module):
    assert module.required(METADATA) == ["click", "typing-extensions"]
    assert module.required(b"") == []


def test_what_follows_metadata(ahead):
    ahead.go_on_from(WHEEL + ".metadata", METADATA)
    assert ahead.all_seen() == [WHEEL, "/root/pypi/+simple/click/", "/root/pypi/+simple/typing-extensions/"]


def test_of_a_project_whose_releases_are_tried_one_file_is_fetched(ahead):
    paths = [WHEEL.replace("26.1", version) for version in ("26.1", "25.1", "24.1")]
    for path in paths[:2]:
        ahead.go_on_from(path + ".metadata", b"")
    # In its turn, so that the others have been planned.
    ahead.plans.submit(lambda: None).result()
    ahead.now += 601
    ahead.go_on_from(paths[2] + ".metadata", b"")
    assert ahead.all_seen() == sorted([paths[0], paths[2]])


@pytest.mark.parametrize("path", ["/alice/private/+f/0123/4567/black-26.1-py3-none-any.whl.metadata", WHEEL, "/+api"])
def test_nothing_else_is_followed(ahead, path):
    ahead.go_on_from(path, METADATA)
    assert ahead.all_seen() == []


def test_metadata_with_many_requirements_is_parsed_in_part_and_elsewhere(module, ahead):
    metadata = b"".join(b"Requires-Dist: project%d\n" % number for number in range(5000))
    assert len(module.required(metadata)) == module.REQUIREMENTS
    parsed_by = []
    ahead.plan = lambda *_arguments: parsed_by.append(threading.current_thread())
    ahead.go_on_from(WHEEL + ".metadata", metadata)
    ahead.all_seen()
    assert parsed_by != [threading.current_thread()]


@pytest.mark.parametrize(
    ("metadata", "headers"),
    [
        pytest.param(b"Name: a\nVersion: 1\n\nRequires-Dist: b\n", b"Name: a\nVersion: 1", id="LF"),
        pytest.param(b"Name: a\r\nVersion: 1\r\n\r\ntext\r\n\r\n", b"Name: a\r\nVersion: 1\r", id="CR LF"),
        pytest.param(b"Name: a\n", b"Name: a\n", id="no description"),
        pytest.param(b"", b"", id="empty"),
    ],
)
def test_headers_end_at_a_blank_line(module, metadata, headers):
    assert module.headers_of(metadata) == headers


def test_only_headers_wait_and_not_those_that_are_too_long(module, ahead):
    waiting = []
    ahead.submit = lambda _pool, _task, *arguments: waiting.append(arguments[-1])
    ahead.go_on_from(WHEEL + ".metadata", METADATA + bytes(12_000_000))
    assert waiting == [METADATA.partition(b"\n\n")[0]]
    ahead.go_on_from(WHEEL + ".metadata", b"Name: black\n" * 1_000_000)
    assert len(waiting) == 1


def test_metadata_that_waits_is_bounded(module, ahead):
    go_on = threading.Event()
    planned = []
    ahead.plan = lambda path, project, headers: (go_on.wait(60), planned.append(path))
    for number in range(2 * module.PLANS):
        ahead.go_on_from(f"{WHEEL.replace('26.1', str(number))}.metadata", METADATA)
    go_on.set()
    ahead.all_seen()
    assert len(planned) == module.PLANS


def test_what_waits_is_bounded(module, ahead):
    go_on = threading.Event()
    ahead.get = lambda path: (go_on.wait(60), ahead.seen.append(path))
    for number in range(2 * module.TASKS):
        ahead.submit(ahead.pages, ahead.get, f"/{number}")
    go_on.set()
    assert len(ahead.all_seen()) == module.TASKS


SIZE = 16 * 1024**2


class Mirror(BaseHTTPRequestHandler):
    """Answers with its server's ``status``. The answer of status 0 is cut off."""

    # A client that neither reads nor closes its connection must not keep the server from ending.
    timeout = 5

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Accept"]))
        self.send_response(self.server.status or 200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(bytes(SIZE if self.server.status else 10))
            self.server.is_read.set()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(module, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Mirror)
    server.seen = []
    server.is_read = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(module, "MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [200, 404, 502, 0])
def test_a_path_is_requested_whatever_the_mirror_answers(module, mirror, status):
    mirror.status = status
    module.fetch("/root/pypi/+simple/click/")
    assert mirror.seen == [("/root/pypi/+simple/click/", "application/vnd.pypi.simple.v1+json")]


def test_an_answer_is_read_to_its_end(module, mirror):
    mirror.status = 200
    module.fetch("/root/pypi/+simple/click/")
    assert mirror.is_read.wait(30)


def test_a_mirror_that_refuses_connections_raises_nothing(module, monkeypatch):
    errors = []

    def open_url(request, timeout):
        try:
            return opener.open(request, timeout=timeout)
        except OSError as exc:
            errors.append(exc.reason.__class__)
            raise

    opener = module.OPENER
    monkeypatch.setattr(module, "OPENER", SimpleNamespace(open=open_url))
    # A port that is bound, on which nothing listens.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setattr(module, "MIRROR", f"http://127.0.0.1:{bound.getsockname()[1]}")
        module.fetch("/root/pypi/+simple/click/")
    assert errors == [ConnectionRefusedError]
