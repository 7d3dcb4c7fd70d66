# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror's responses while its upstream is a black hole and the fallback is used (``devpi_server_upstream_fallback``)."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import (
    JSON,
    UPSTREAM_ADDRESS,
    UPSTREAM_PORT,
    Mirror,
    on_host,
    send,
    set_upstream_mode,
    until,
    upstream_requests,
)
from installers import pip, uv
from plays import succeed

FALLBACK_PORT = UPSTREAM_PORT - 1
URL = f"http://{{}}@{UPSTREAM_ADDRESS}:{{}}/{{}}/"
VARIABLES = {
    "devpi_server_upstream_url": URL.format("bob:office", UPSTREAM_PORT, "simple"),
    "devpi_server_upstream_fallback": True,
    "devpi_server_upstream_fallback_url": URL.format("ann:public", FALLBACK_PORT, "other"),
    "devpi_server_prewarm": [],
}
RULE = f"INPUT --in-interface br-+ --destination {UPSTREAM_ADDRESS} --protocol tcp --dport {UPSTREAM_PORT} --jump DROP"
# A project whose page the mirror has cached, without its file.
CACHED = "new971"
PROJECTS = [CACHED, *(f"new{number}" for number in (*range(972, 978), 981, 983, 985, 991))]
mirror = Mirror()


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.fixture(scope="module", autouse=True)
def seconds() -> Iterator[float]:
    """Block the upstream, and return the seconds that the mirror needs for the next page."""
    set_upstream_mode("normal")
    for name in PROJECTS:
        assert send(UPSTREAM_PORT, f"/+other/{name}/1.0", "POST").status == 200
    succeed("devpi.mirror.site", variables=VARIABLES)
    assert mirror.page(CACHED).status == 200
    on_host(f"iptables --insert {RULE}")
    try:
        started = time.monotonic()
        assert mirror.page("new972").status == 200
        yield time.monotonic() - started
    finally:
        on_host(f"iptables --delete {RULE}")


def test_one_client_waits_for_the_upstream(seconds: float) -> None:
    assert 4 < seconds < 12
    started = time.monotonic()
    for number in range(973, 978):
        assert mirror.page(f"new{number}").status == 200
    # Up to one of these requests probes the upstream.
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(("install", "name"), [(pip, "new981"), (uv, "new983")], ids=["pip", "uv"])
def test_a_project_is_installed(install: Callable[..., str], name: str, tmp_path: Path) -> None:
    arguments = ["install"] if install is pip else []
    output = install(*arguments, "--target", str(tmp_path), name)
    assert (tmp_path / f"{name}.py").is_file(), output


def test_a_file_of_a_cached_page_is_downloaded() -> None:
    (file,) = mirror.files(CACHED).values()
    for suffix in (".metadata", ""):
        answer = mirror.ask(file["path"] + suffix)
        assert answer.status == 200, answer
    assert hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]


def test_a_private_project_has_nothing_from_the_fallback() -> None:
    """The fallback has a release of this name."""
    mirror.create_user("erin").upload("new985", "9.0")
    answer = mirror.ask("/erin/private/+simple/new985/", Accept=JSON)
    assert [file["filename"] for file in json.loads(answer.text)["files"]] == ["new985-9.0-py3-none-any.whl"]


def test_a_project_that_does_not_exist_is_not_found() -> None:
    """The upstream has it. While the fallback is used, its 404 is the result."""
    assert mirror.page("new995").status == 404


def test_the_status_has_the_fallback() -> None:
    state = mirror.state()
    assert not state["upstream"]["reachable"]
    assert state["fallback"] == {
        "url": f"http://{UPSTREAM_ADDRESS}:{FALLBACK_PORT}/other/",
        "reachable": True,
        "error": "",
    }
    assert state["problems"] == []


def test_each_upstream_gets_its_own_credentials() -> None:
    sent = set(map(tuple, json.loads(send(UPSTREAM_PORT, "/+authorizations").text)))
    assert (FALLBACK_PORT, basic("ann:public")) in sent
    assert (FALLBACK_PORT, basic("bob:office")) not in sent
    assert (UPSTREAM_PORT, basic("ann:public")) not in sent
    assert "public@" not in mirror.log()


def test_the_upstream_is_used_again() -> None:
    on_host(f"iptables --delete {RULE}")
    try:

        def is_used() -> bool:
            assert mirror.page("new991").status == 200
            return "/simple/new991/" in upstream_requests()

        until(is_used, "the upstream is not used", 60)
    finally:
        on_host(f"iptables --insert {RULE}")
