"""The image's server.py with the devpi-server of the test environment, as one process: what clients and the upstream see."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from recorded_server import REPLACED

HERE = Path(__file__).parent
SERVER = HERE.parents[2] / "roles" / "devpi_server" / "files" / "server.py"
OPENER = build_opener(ProxyHandler({}))
PASSWORD = "for-this-test-alone"
ARGON2 = ["--argon2-time-cost", "1", "--argon2-memory-cost", "8192", "--argon2-parallelism", "1"]
JSON = "application/vnd.pypi.simple.v1+json"
METADATA = b"Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"
PAGE = '<a href="/files/{name}-1.0-py3-none-any.whl#sha256={digest}">{name}-1.0-py3-none-any.whl</a>'


def make_wheel() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("alpha-1.0.dist-info/METADATA", METADATA)
    return stream.getvalue()


WHEEL = make_wheel()


class Upstream(BaseHTTPRequestHandler):
    """Has the project pages alpha, beta and huge, and files of these names. That of huge is larger than any disk.

    The page of bomb expands to 100 MB.
    """

    protocol_version = "HTTP/1.1"
    connections: dict[str, int]

    def do_GET(self) -> None:
        self.server.connections[self.path] = self.client_address[1]
        if self.path == "/simple/bomb/":
            self.answer(200, gzip.compress(bytes(100_000_000), 1), JSON, "gzip")
        elif self.path.startswith("/simple/"):
            name = self.path.split("/")[2]
            self.answer(200, PAGE.format(name=name, digest=hashlib.sha256(WHEEL).hexdigest()).encode(), "text/html")
        elif self.path.endswith(".metadata"):
            self.answer(404, b"", "text/plain")
        elif "/huge-" in self.path:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", str(10**15))
            self.end_headers()
        else:
            self.answer(200, WHEEL, "application/octet-stream")

    def answer(self, status: int, body: bytes, content_type: str, encoding: str = "identity") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    server.connections = {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def choose_port() -> int:
    """Return a free port that the kernel gives to no other program until devpi-server listens on it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10000, first), 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("found no free port")


def request(
    url: str, method: str = "GET", data: object = None, headers: dict[str, str] | None = None
) -> SimpleNamespace:
    """Send a request, and return the status, the headers and the body of the answer."""
    body = None if data is None else json.dumps(data).encode()
    try:
        with OPENER.open(Request(url, body, headers or {}, method=method), timeout=30) as response:
            return SimpleNamespace(status=response.status, headers=response.headers, body=response.read())
    except HTTPError as exc:
        with exc:
            return SimpleNamespace(status=exc.code, headers=exc.headers, body=exc.read())


def wait_until_ready(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if request(f"{url}/+api").status == 200:
                return
        except (URLError, OSError):
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def use_upstream(url: str, upstream: str) -> None:
    """Have devpi's mirror index use this upstream."""
    login = request(f"{url}/+login", "POST", {"user": "root", "password": PASSWORD})
    token = json.loads(login.body)["result"]["password"]
    credentials = f"root:{token}".encode()
    headers = {"X-Devpi-Auth": base64.b64encode(credentials).decode(), "Content-Type": "application/json"}
    settings = ["mirror_no_project_list=True", "mirror_provides_core_metadata=True", f"mirror_url={upstream}/simple/"]
    changed = request(f"{url}/root/pypi", "PATCH", settings, headers)
    assert changed.status == 200, changed.body


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, upstream):
    """A running server.py; ``events`` returns what recorded_server.py has recorded of it."""
    folder = tmp_path_factory.mktemp("mirror")
    log, events = folder / "log", folder / "events"
    events.touch()
    environ = {**os.environ, "DEVPISERVER_ROOT_PASSWD": PASSWORD, "DEVPI_MIRROR_DATA": str(folder)}
    store = ["--serverdir", str(folder / "server")]
    init = Path(sys.executable).with_name("devpi-init")
    subprocess.run([str(init), *store], env=environ, check=True, capture_output=True)
    port = choose_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(HERE / "recorded_server.py"), str(SERVER), str(events), *store, *ARGON2,
               "--host", "127.0.0.1", "--port", str(port), "--enable-core-metadata"]  # fmt: skip
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environ, stdout=stream, stderr=stream)
    try:
        wait_until_ready(url, process, log)
        use_upstream(url, upstream.url)
        yield SimpleNamespace(url=url, events=lambda: set(events.read_text().splitlines()), log=log)
    finally:
        process.terminate()
        process.wait(30)


def get_page(mirror, project: str, **headers: str) -> SimpleNamespace:
    return request(f"{mirror.url}/root/pypi/+simple/{project}/", headers=headers)


def get_file_url(mirror, project: str) -> str:
    (file,) = json.loads(get_page(mirror, project, Accept=JSON).body)["files"]
    assert file["url"].startswith("../../-f/")
    return f"{mirror.url}/root/pypi/+f/" + file["url"][len("../../-f/") :]


@pytest.mark.parametrize("accepted", ["text/html", JSON])
def test_pages_are_compressed_and_their_links_have_no_plus_sign(mirror, accepted):
    page = get_page(mirror, "alpha", **{"Accept": accepted, "Accept-Encoding": "gzip"})
    assert (page.status, page.headers["Content-Encoding"]) == (200, "gzip")
    assert page.headers["Content-Length"] == str(len(page.body))
    assert re.findall(rb'"([^"]+/alpha-1.0-py3-none-any\.whl)', gzip.decompress(page.body)) == [
        get_file_url(mirror, "alpha").replace(f"{mirror.url}/root/pypi/+f/", "../../-f/").encode()
    ]


def test_metadata_that_the_upstream_lacks_is_read_from_the_wheel(mirror):
    metadata = request(get_file_url(mirror, "alpha") + ".metadata")
    assert (metadata.status, metadata.body) == (200, METADATA)


def test_files_and_their_metadata_are_served(mirror):
    file = request(get_file_url(mirror, "alpha"))
    assert (file.status, file.body) == (200, WHEEL)
    metadata = request(get_file_url(mirror, "alpha") + ".metadata")
    assert (metadata.status, metadata.body) == (200, METADATA)


def test_metadata_of_another_package_is_refused_before_and_after_the_download(mirror):
    url = get_file_url(mirror, "beta")
    assert request(url + ".metadata").status == 502
    assert request(url).status == 200
    # devpi stores the file after it has sent it.
    deadline = time.monotonic() + 30
    while request(url + ".metadata").status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_changes_need_a_user(mirror, upstream):
    body = {"name": "alpha", "version": "1.0", "posturl": f"{upstream.url}/pushed", "username": "a", "password": "b"}
    for path in ("/root/pypi", "/root/pypi/+e/http_a/b-1.0.zip"):
        answer = request(f"{mirror.url}{path}", "POST", body, {"Content-Type": "application/json"})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="pypi"')


def test_a_request_that_needs_no_user_is_small(mirror):
    body = {"user": "a" * 100_000}
    outside = {"X-Outside-Url": "http://localhost/outside"}
    for method, path, headers in (
        ("POST", "/+login", {}),
        ("PATCH", "/root", {}),
        ("POST", "/outside/+login", outside),
    ):
        headers = {"Content-Type": "application/json", **headers}
        assert request(f"{mirror.url}{path}", method, body, headers).status == 413, path


def test_a_file_that_does_not_fit_on_the_disk_is_refused(mirror):
    file = request(get_file_url(mirror, "huge"))
    assert file.status == 507
    assert b"no room for huge-1.0-py3-none-any.whl" in file.body


def test_pages_are_downloaded_over_one_connection(mirror, upstream):
    for project in ("alpha", "beta"):
        assert get_page(mirror, project).status == 200
    assert upstream.connections["/simple/alpha/"] == upstream.connections["/simple/beta/"]


def test_a_page_that_expands_to_too_much_is_an_error_of_the_upstream(mirror):
    page = get_page(mirror, "bomb")
    assert page.status == 502
    assert b"the response has more than 64 MB" in page.body


def test_devpi_calls_every_function_that_is_replaced(mirror):
    request(get_file_url(mirror, "beta") + ".metadata")
    request(get_file_url(mirror, "beta"))
    assert {event for event in mirror.events() if event.startswith("kept")} == set()
    called = {event.removeprefix("called ") for event in mirror.events() if event.startswith("called ")}
    assert called == {name for _owner, name in REPLACED}


def test_the_notifications_that_are_skipped_do_nothing(mirror):
    assert get_page(mirror, "gamma").status == 200
    deadline = time.monotonic() + 30
    while "skipped" not in mirror.events():
        assert time.monotonic() < deadline, mirror.log.read_text()
        time.sleep(0.05)
    assert {event for event in mirror.events() if event.startswith("needed")} == set()
