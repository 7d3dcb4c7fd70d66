# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and a replica with the plugin: what the replica serves, and while the primary is unavailable."""

from __future__ import annotations

import json
import time
from urllib.parse import urljoin

import pytest
from devpi_mirror import compat
from devpi_mirror.maintenance import replication
from devpi_mirror.pages import JSON
from devpi_servers import log_in, prepare, request, running, set_upstream, upload
from fake_index import WHEEL
from test_reading import basic


@pytest.fixture(scope="module")
def primary(tmp_path_factory, upstream, secret):
    folder = tmp_path_factory.mktemp("primary")
    environ = prepare(folder, [])
    with running(folder, environ, ["--role", "primary", *secret]) as server:
        server.auth = log_in(server.url)
        set_upstream(server.url, server.auth, upstream.url)

        def change(method, path, data):
            response = request(
                f"{server.url}/{path}", method, data, X_Devpi_Auth=server.auth, Content_Type="application/json"
            )
            assert response.status < 300, response.body

        server.change = change
        change("PUT", "ada", {"password": "of-ada"})
        change("PUT", "ada/secret", {"bases": ["root/pypi"], "acl_read": ["ada"], "acl_upload": ["ada"]})
        upload(f"{server.url}/ada/secret", "hidden", **basic("ada"))
        yield server


def about(server):
    """Return what devpi reports about a server."""
    return json.loads(request(f"{server.url}/+status", Accept="application/json").body)["result"]


def serial(server) -> int:
    return int(about(server)["serial"])


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_in_sync(primary, replica) -> None:
    wait_until(lambda: serial(replica) == serial(primary))


@pytest.fixture(scope="module")
def replica(tmp_path_factory, primary, secret):
    folder = tmp_path_factory.mktemp("replica")
    role = ["--role", "replica", "--primary-url", primary.url]
    skip = ["--file-replication-skip-indexes", "mirror"]
    environ = prepare(folder, role)
    with running(folder, environ, [*role, *skip, *secret]) as server:
        wait_until_in_sync(primary, server)
        yield server


def file_url(server, page: str, **headers: str) -> str:
    """Return the URL of the first file of a page."""
    url = f"{server.url}{page}"
    response = request(url, Accept=JSON, **headers)
    assert response.status == 200, response.body
    return urljoin(url, json.loads(response.body)["files"][0]["url"])


def test_the_state_of_the_replication(primary, replica):
    wait_until(lambda: about(replica)["replica-in-sync-at"])
    assert replication.role(about(replica), {}) == "replica"
    state = replication.replica(about(replica))
    assert state["serial"] == state["primary_serial"] == serial(primary)
    assert all(abs(state["at"] - state[name]) < 60 for name in ("started_at", "updated_at", "in_sync_at"))
    assert (state["error_count"], state["errors"]) == (0, [])
    assert (state["primary"]["url"], state["primary"]["error"]) == (primary.url, "")
    assert replication.role(about(primary), {"DEVPISERVER_ROLE": "primary"}) == "primary"
    (found,) = replication.replicas(about(primary))
    assert (found["uuid"], found["serial"]) == (about(replica)["uuid"], serial(primary))


def test_private_files_are_replicated_with_their_restrictions(replica):
    url = file_url(replica, "/ada/secret/+simple/hidden/", **basic("ada"))
    assert request(url).status == 401
    assert request(url, **basic("ada")).body == WHEEL


def test_a_private_file_that_is_not_replicated_yet_is_served(replica):
    url = file_url(replica, "/ada/secret/+simple/hidden/", **basic("ada"))
    stored = replica.folder / "server" / "+files" / url.removeprefix(f"{replica.url}/")
    wait_until(stored.exists)
    stored.unlink()
    assert request(url).status == 401
    assert request(url, **basic("ada")).body == WHEEL
    wait_until(lambda: stored.exists() and stored.read_bytes() == WHEEL)


def test_public_files_are_those_of_the_replica(primary, replica):
    url = file_url(replica, "/root/pypi/+simple/alpha/")
    assert request(url).body == WHEEL
    stored = replica.folder / "server" / "+files" / url.removeprefix(f"{replica.url}/").replace("/-f/", "/+f/")
    assert stored.read_bytes() == WHEEL
    assert not (primary.folder / stored.relative_to(replica.folder)).exists()
    assert request(url).body == WHEEL
    # After this, the replica has an entry of a file that its primary has stored.
    assert request(url.replace(replica.url, primary.url)).body == WHEEL
    wait_until_in_sync(primary, replica)
    stored.unlink()
    assert [request(url).body for _time in range(2)] == [WHEEL, WHEEL]
    assert stored.read_bytes() == WHEEL


def test_changes_reach_the_primary(primary, replica):
    upload(f"{replica.url}/ada/secret", "second", **basic("ada"))
    for server in (primary, replica):
        assert request(file_url(server, "/ada/secret/+simple/second/", **basic("ada")), **basic("ada")).body == WHEEL
    log_in(replica.url, "ada", "of-ada")


def nginx_conf(server) -> str:
    path = server.folder / "nginx.conf"
    return path.read_text() if path.exists() else ""


def test_nginx_serves_new_mirror_indexes(primary, replica, upstream):
    kind = "mirror" if compat.MAJOR < 7 else "remote"
    settings = compat.renamed({"mirror_url": upstream.url, "mirror_no_project_list": True})
    primary.change("PUT", "ada/other", {"type": kind, **settings})
    wait_until(lambda: "ada/other" in nginx_conf(replica))


def test_a_replica_serves_while_its_primary_is_unavailable(primary, replica):
    url = file_url(replica, "/ada/secret/+simple/hidden/", **basic("ada"))
    primary.stop()
    assert request(url, **basic("ada")).body == WHEEL
    assert request(file_url(replica, "/root/pypi/+simple/late/")).body == WHEEL
    login = {"user": "ada", "password": "of-ada"}
    for path, method, body in (("+login", "POST", login), ("ada/new", "PUT", {}), ("ada/secret", "DELETE", None)):
        response = request(f"{replica.url}/{path}", method, body, Content_Type="application/json", **basic("ada"))
        assert (response.status, response.headers["Retry-After"]) == (503, "30")
        assert b"its primary is unavailable" in response.body
