# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror accepts requests of its users, and none that a web page makes a browser send."""

from __future__ import annotations

import base64
import json
import re
import socket
from urllib.parse import urljoin

import pytest
from harness import (
    JSON,
    MIRROR_PORT,
    PUBLIC,
    UPSTREAM_ADDRESS,
    UPSTREAM_PORT,
    Mirror,
    address,
    on_host,
    send,
    upstream_requests,
)

mirror = Mirror()
PATHS = ("/", "/+api", "/root/pypi", f"{PUBLIC}alpha/", "/alice/private/+simple/alpha/", "/+login")


def statuses(**headers: str) -> set[int]:
    """Return the statuses of requests to all kinds of paths."""
    credentials = json.dumps({"user": "root", "password": "guess"}).encode()
    requests = {path: ("POST", credentials) if path == "/+login" else ("GET", None) for path in PATHS}
    return {mirror.ask(path, method, body, 60, **headers).status for path, (method, body) in requests.items()}


@pytest.mark.parametrize(
    "host",
    [
        "localhost:3141",
        "LOCALHOST",
        "a.localhost:3141",
        "127.0.0.1:3141",
        "[::1]:3141",
        "mirror.example:3141",
        "default",
        "team",
        "",
    ],
)
def test_requests_to_its_own_names_are_accepted(host: str) -> None:
    mirror.create_user("alice")
    assert 403 not in statuses(Host=host or f"{address()}:{MIRROR_PORT}")


@pytest.mark.parametrize(
    "host", ["evil.example:3141", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_requests_to_other_names_are_refused(host: str) -> None:
    assert statuses(Host=host) == {403}
    assert "devpi_server_allowed_hosts" in mirror.ask("/+api", Host=host).text


@pytest.mark.parametrize("host", ["127.0.0.1:3141@evil.example", "[::1]evil.example", "localhost:"])
def test_a_malformed_name_is_refused(host: str) -> None:
    assert statuses(Host=host) == {400}


def test_a_host_name_in_the_request_line_is_checked() -> None:
    assert mirror.ask("http://evil.example/+api", Host="localhost").status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:8000", "Host": "localhost:3141"},
        {"Origin": "null"},
    ],
)
def test_requests_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    assert statuses(**headers) == {403}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Origin": "http://localhost:3141", "Host": "localhost:3141"},
    ],
)
def test_requests_of_its_own_pages_are_accepted(headers: dict[str, str]) -> None:
    assert 403 not in statuses(**headers)


def test_nothing_but_nginx_listens_in_the_container() -> None:
    """Containers on the mirror's network, as the one that prewarms, can't connect to devpi."""
    listening = {
        line.split()[1] for line in mirror.run("cat /proc/net/tcp /proc/net/tcp6").splitlines() if " 0A " in line
    }
    # Docker's own name server listens on 127.0.0.11.
    ports = {int(place.partition(":")[2], 16) for place in listening if not place.startswith("0B00007F:")}
    assert ports == {MIRROR_PORT}


def test_test_results_need_a_user() -> None:
    alice = mirror.create_user("alice")
    alice.upload("tested", "1.0")
    page = "/alice/private/+simple/tested/"
    (file,) = json.loads(mirror.ask(page, Accept=JSON).text)["files"]
    path = urljoin(page, file["url"]).partition("#")[0]
    result = json.dumps({"testenvs": {}}).encode()
    for headers in ({}, {"X_Devpi_Auth": "bm9ib2R5OnNlY3JldA=="}, {"Authorization": "Basic bm9ib2R5OnNlY3JldA=="}):
        assert mirror.ask(path, "POST", result, 60, Accept="application/json", **headers).status in (401, 403, 429)
    accepted = mirror.ask(path, "POST", result, Accept="application/json", X_Devpi_Auth=alice.auth)
    assert accepted.status == 200, accepted


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/root/pypi"),
        ("POST", "/root/pypi/"),
        ("PUSH", "/root/pypi"),
        ("PATCH", "/root/pypi"),
        ("POST", "/root/pypi/+e/http_192.0.2.1_8099_files/alpha-1.0.tar.gz"),
        ("POST", "/alice/private/"),
        ("PUT", "/alice/private/+f/abc/def0123456789/alpha-1.0.tar.gz"),
        ("DELETE", "/alice/private/+f/abc/def0123456789/alpha-1.0.tar.gz"),
        ("DELETE", "/alice/private"),
    ],
)
def test_changes_need_a_user_and_cause_no_request_without_one(method: str, path: str) -> None:
    """devpi would send a release to any address, and request pages while it has its write lock."""
    mirror.create_user("alice")
    for file in mirror.files("alpha").values():
        assert mirror.ask(file["path"]).status == 200
    target = f"http://{UPSTREAM_ADDRESS}:{UPSTREAM_PORT}/+pushed"
    for name in ("alpha", f"pushed{method.lower()}"):
        body = {"name": name, "version": "1.0", "posturl": target, "username": "alice", "password": "guess"}
        for headers in ({}, {"X_Devpi_Auth": "bm9ib2R5OnNlY3JldA=="}):
            answer = mirror.ask(path, method, json.dumps(body).encode(), 60, Content_Type="application/json", **headers)
            # 429: too many wrong passwords.
            assert answer.status in (401, 403, 405, 429), answer
    assert not [path for path in upstream_requests() if "push" in path]


def test_a_login_has_a_size_limit() -> None:
    body = json.dumps({"user": "a" * 100_000}).encode()
    assert mirror.ask("/+login", "POST", body).status == 413
    assert mirror.ask("/root", "PATCH", body, Content_Type="application/json").status == 413


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Content-Length: 5\r\nContent-Length: 60",
        "Content-Length: +5",
        "Content-Length: 5, 60",
    ],
)
def test_a_request_with_two_lengths_is_refused(headers: str) -> None:
    """A second request in its body must not reach devpi."""
    smuggled = "GET /+smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = f"POST /+login HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n{smuggled}"
    with socket.create_connection((address(), MIRROR_PORT), timeout=60) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as stream:
            assert stream.readline().split()[1] in (b"400", b"501")
            assert stream.read().count(b"HTTP/1.1 ") == 0
    for _attempt in range(3):
        assert mirror.ask("/+api").status == 200
    assert "+smuggled" not in mirror.log()


class TestCredentials:
    """The credentials of the upstream, which the scenario configures in its URL."""

    def test_they_are_sent_to_the_upstream_and_to_no_other_origin(self) -> None:
        for name in ("alpha", "elsewhere"):
            for file in mirror.files(name).values():
                for suffix in ("", ".metadata"):
                    assert mirror.ask(file["path"] + suffix).status == 200
        sent = json.loads(send(UPSTREAM_PORT, "/+authorizations").body)
        own = f"Basic {base64.b64encode(b'bob:s3cr%t@x').decode()}"
        assert [UPSTREAM_PORT, own] in sent
        assert [authorization for port, authorization in sent if port != UPSTREAM_PORT] == [""]

    @pytest.mark.parametrize("path", ["/", "/root", "/root/pypi", "/root/pypi/+api", f"{PUBLIC}alpha/", "/+status"])
    def test_no_client_can_read_them(self, path: str) -> None:
        answer = mirror.ask(path, Accept="application/json")
        assert answer.status == 200
        assert not re.search("bob|s3cr", answer.text), answer.text

    def test_they_are_in_no_log_and_in_no_process_list(self) -> None:
        places = mirror.log() + on_host("ps axww; journalctl --no-pager --unit devpi; cat /etc/devpi-mirror.sh")
        assert not re.search("bob:|s3cr", places)
        assert on_host("stat --format %a /etc/devpi-mirror.env").strip() == "600"

    def test_they_are_not_in_the_data_directory(self) -> None:
        assert not mirror.run("grep --recursive --files-with-matches s3cr /data || true")
