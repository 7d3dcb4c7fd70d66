# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can read a private index with acl_read, in a running devpi-server, and how wrong passwords are limited."""

from __future__ import annotations

import base64
import json
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from devpi_mirror import attempts, identities
from devpi_servers import request, upload
from fake_index import WHEEL

PASSWORDS = {"ada": "of-ada", "bob": "of-bob"}


def get(url: str, **headers: str) -> SimpleNamespace:
    """Request a page or, as devpi has some paths for its own client only, JSON."""
    accept = "text/html" if "/+simple" in url else "application/json"
    return request(url, Accept=accept, **headers)


def basic(name: str, password: str | None = None) -> dict[str, str]:
    password = PASSWORDS[name] if password is None else password
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def server(mirror):
    """The server with an index that ada can read, an index that inherits from it, and an index that all users can read."""

    def change(method, path, data):
        response = request(
            f"{mirror.url}/{path}", method, data, X_Devpi_Auth=mirror.auth, Content_Type="application/json"
        )
        assert response.status < 300, response.body
        return json.loads(response.body)["result"]

    for name, password in PASSWORDS.items():
        change("PUT", name, {"password": password})
    change("PUT", "ada/secret", {"bases": ["root/pypi"], "acl_read": ["ada"], "acl_upload": ["ada"]})
    change("PUT", "bob/open", {"bases": ["ada/secret"], "acl_upload": ["bob"]})
    change("PUT", "bob/public", {"bases": ["root/pypi"]})
    change("PUT", "bob/users", {"acl_read": [":authenticated:"]})
    upload(f"{mirror.url}/ada/secret", "hidden", **basic("ada"))
    return SimpleNamespace(**vars(mirror), change=change)


def file_path(server) -> str:
    page = request(
        f"{server.url}/ada/secret/+simple/hidden/", Accept="application/vnd.pypi.simple.v1+json", **basic("ada")
    )
    url = json.loads(page.body)["files"][0]["url"]
    return "/ada/secret/+f/" + url.split("+f/")[1].split("#")[0]


PATHS = [
    "/ada/secret",
    "/ada/secret/",
    "/ada/secret?no_projects=",
    "/ada/secret/+api",
    "/ada/secret/hidden",
    "/ada/secret/hidden/9.0",
    "/ada/secret/+simple/",
    "/ada/secret/+simple/hidden/",
    "/ada/secret/+simple/hidden",
    "/ada/secret/+simple/Hidden/",
    "/ada/secret/+simple/alpha/",
    "/ada/secret/%2Bsimple/hidden/",
    "/bob/open/+simple/hidden/",
    "/bob/open/hidden",
    "/bob/users/+simple/",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, basic("ada", "wrong")], ids=["no credentials", "wrong password"])
def test_reading_requires_a_user(server, path, headers):
    response = get(server.url + path, **headers, X_Real_IP=path)
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="pypi"')


@pytest.mark.parametrize("path", PATHS[:-1])
def test_reading_requires_the_permission(server, path):
    response = get(server.url + path, **basic("bob"))
    assert response.status == 403
    assert b"The credentials of bob do not permit reading ada/secret" in response.body


@pytest.mark.parametrize("path", PATHS)
def test_users_with_the_permission_can_read(server, path):
    assert get(server.url + path, **basic("ada")).status in (200, 302)


def test_root_can_read(server):
    assert get(f"{server.url}/ada/secret/hidden", X_Devpi_Auth=server.auth).status == 200


def test_files_are_restricted(server):
    path = file_path(server)
    for url in (server.url + path, server.url + path.replace("+f", "%2Bf")):
        assert request(url).status == 401
        assert get(url, **basic("bob")).status == 403
        response = request(url, **basic("ada"))
        assert (response.status, response.body) == (200, WHEEL)


def test_all_users_can_read_other_indexes(server):
    assert request(f"{server.url}/bob/public").status == 200
    assert request(f"{server.url}/bob/public/+simple/alpha/").status == 200
    assert request(f"{server.url}/bob/users", **basic("bob")).status == 200


def test_a_removed_list_allows_all_users(server):
    server.change("PATCH", "bob/users", ["acl_read="])
    try:
        assert request(f"{server.url}/bob/users").status == 200
    finally:
        server.change("PATCH", "bob/users", ["acl_read=:authenticated:"])
    assert request(f"{server.url}/bob/users").status == 401


def test_a_changed_password_is_valid_at_once(server):
    server.change("PUT", "carol", {"password": "first"})
    server.change("PATCH", "ada/secret", ["acl_read+=carol"])
    url = f"{server.url}/ada/secret/hidden"
    assert get(url, **basic("carol", "first")).status == 200
    server.change("PATCH", "carol", {"password": "second"})
    assert get(url, **basic("carol", "first")).status == 401
    assert get(url, **basic("carol", "second")).status == 200
    assert request(f"{server.url}/carol", "DELETE", X_Devpi_Auth=server.auth).status < 300
    assert get(url, **basic("carol", "second")).status == 401


def create_token(server, **restrictions) -> dict[str, str]:
    """Create a token of ada, and return the header with it."""
    url = f"{server.url}/ada/+token-create"
    body = {"allowed": ["pkg_read"], "expires": str(int(time.time()) + 3600), **restrictions}
    response = request(url, "POST", body, Content_Type="application/json", **basic("ada"))
    assert response.status < 300, response.body
    return basic("ada", json.loads(response.body)["result"]["token"])


def test_users_who_upload_need_not_be_readers(server):
    server.change("PATCH", "ada/secret", ["acl_upload+=bob"])
    upload(f"{server.url}/ada/secret", "uploaded-by-bob", **basic("bob"))
    token = create_token(server, allowed=["upload"])
    upload(f"{server.url}/ada/secret", "uploaded-by-token", **token)
    assert get(f"{server.url}/ada/secret/+simple/uploaded-by-token/", **token).status == 403


def test_a_token_is_limited_to_its_index_and_project(server):
    url = f"{server.url}/ada/secret/+simple/hidden/"
    file = server.url + file_path(server)
    for allowed in ({}, {"indexes": ["ada/secret"]}, {"projects": ["Hidden"]}):
        headers = create_token(server, **allowed)
        assert get(url, **headers).status == 200
        assert request(file, **headers).status == 200
    for denied in ({"indexes": ["bob/public"]}, {"projects": ["other"]}, {"allowed": ["upload"]}):
        headers = create_token(server, **denied)
        assert get(url, **headers).status == 403
        assert request(file, **headers).status == 403
    # The index that inherits is the one of the request.
    assert (
        request(f"{server.url}/bob/open/+simple/hidden/", **create_token(server, indexes=["ada/secret"])).status == 403
    )


def test_wrong_passwords_are_limited_by_address_and_user(server):
    url = f"{server.url}/ada/secret/hidden"
    for _attempt in range(attempts.LIMIT):
        assert get(url, **basic("ada", "wrong"), X_Real_IP="192.0.2.7").status == 401
    refused = get(url, **basic("ada", "wrong"), X_Real_IP="192.0.2.7")
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= attempts.PERIOD + 1
    assert b"Too many wrong passwords of the user ada" in refused.body
    # The password of this user is known, and other addresses are not affected.
    assert get(url, **basic("ada"), X_Real_IP="192.0.2.7").status == 200
    assert get(url, **basic("ada", "wrong"), X_Real_IP="192.0.2.8").status == 401
    # What has no restriction remains readable.
    assert (
        request(f"{server.url}/bob/public/+simple/alpha/", **basic("ada", "wrong"), X_Real_IP="192.0.2.7").status == 200
    )


def test_logins_are_limited(server):
    def log_in(password, address="192.0.2.9"):
        body = {"user": "bob", "password": password}
        return request(f"{server.url}/+login", "POST", body, Content_Type="application/json", X_Real_IP=address)

    assert [log_in("wrong").status for _attempt in range(attempts.LIMIT)] == [401] * attempts.LIMIT
    assert log_in("of-bob").status == 429
    assert log_in("of-bob", "192.0.2.10").status == 200


def test_logins_that_a_replica_forwards_are_limited_by_the_address_of_the_client():
    def make_server(is_replica):
        config = SimpleNamespace(basesecret=b"secret")
        keyfs = SimpleNamespace(read_transaction=nullcontext)
        return identities.Identities(
            {"xom": SimpleNamespace(is_replica=lambda: is_replica, config=config, keyfs=keyfs)}
        )

    def log_in(server, password, headers, handler=None):
        body = json.dumps({"user": "bob", "password": password})
        login = SimpleNamespace(headers=headers, body=body, environ={})
        answer = SimpleNamespace(status_code=200 if password == "of-bob" else 401)
        return server.log_in(login, handler or (lambda _request: answer)).status_code

    replica, primary = make_server(is_replica=True), make_server(is_replica=False)

    def forward(password, address, **headers):
        def send(request):
            # nginx of the primary adds the address of the replica.
            return SimpleNamespace(status_code=log_in(primary, password, {**request.headers, "X-Real-IP": "192.0.2.2"}))

        return log_in(replica, password, {"X-Real-IP": address, **headers}, send)

    assert [forward("wrong", "192.0.2.7") for _attempt in range(attempts.LIMIT + 1)] == [401] * attempts.LIMIT + [429]
    assert forward("of-bob", "192.0.2.8") == 200
    # Clients can't choose an address.
    for number in range(attempts.LIMIT):
        assert forward("wrong", "192.0.2.9", **{identities.CLIENT: f"192.0.2.{number} 00"}) == 401
    assert forward("of-bob", "192.0.2.9", **{identities.CLIENT: "192.0.2.99 00"}) == 429
    for number in range(attempts.LIMIT):
        forged = {identities.CLIENT: f"192.0.2.{number} 00", "X-Real-IP": "192.0.2.10"}
        assert log_in(primary, "wrong", forged) == 401
    assert log_in(primary, "of-bob", {"X-Real-IP": "192.0.2.10"}) == 429


def test_attempts_end_with_time():
    now = [0.0]
    found = attempts.Attempts(limit=2, period=60, clock=lambda: now[0])
    found.add("a")
    now[0] = 10
    assert found.wait("a") == 0
    found.add("a")
    assert (found.wait("a"), found.wait("b")) == (50, 0)
    now[0] = 60
    assert found.wait("a") == 0
    found.add("a")
    assert found.wait("a") == 10
    found.forget("a")
    assert found.wait("a") == 0


def test_a_limited_number_of_clients_is_remembered(monkeypatch):
    monkeypatch.setattr(attempts, "CLIENTS", 2)
    found = attempts.Attempts(limit=1)
    for client in "abc":
        found.add(client)
    assert [bool(found.wait(client)) for client in "abc"] == [False, True, True]
