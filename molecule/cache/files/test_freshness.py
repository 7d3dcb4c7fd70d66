# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases that pip and uv install after the upstream has yanked, removed or quarantined one, or with a limit of its age."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial

import installers
import pytest
from harness import (
    JSON,
    PUBLIC,
    RECOVERY_LIMIT,
    UPSTREAM_PORT,
    Mirror,
    address,
    publish_upstream,
    send,
    set_upstream_mode,
    until,
)

mirror = Mirror()
# The scenario's settings: seconds for which a page is fresh, and then served stale without waiting for the upstream.
FRESHNESS = 2
MAX_STALE = 20
# Requests that change a project at the upstream.
CHANGES = {
    "yanked": "/+yank/{}/2.0",
    "published": "/+release/{}/3.0",
    "quarantined": "/+status/{}/quarantined",
    "removed": "/+remove/{}",
    "denied": "/+page/{}/403",
}
pip = installers.dry_run_pip
uv = partial(installers.dry_run_uv, "--no-deps")
INSTALLERS = installers.each_installer(pip, uv)


def change_upstream(path: str) -> None:
    assert send(UPSTREAM_PORT, path, "POST").status == 200


def publish(name: str) -> None:
    for version in ("1.0", "2.0"):
        publish_upstream(name, version)


def let_page_become_stale(name: str) -> None:
    """Have the upstream fail until the mirror serves the page as stale.

    The upstream still fails after that, as a running revalidation would otherwise confirm what a test is about to change.
    """
    set_upstream_mode("failing")
    until(
        lambda: "warning" in mirror.page(name).headers,
        f"the page of {name} does not become stale",
        MAX_STALE + RECOVERY_LIMIT,
    )


@INSTALLERS
def test_a_yanked_release_is_replaced(
    install: Callable[..., str], separator: str, request: pytest.FixtureRequest
) -> None:
    name = f"yanked{request.node.callspec.id}"
    publish(name)
    assert f"{name}{separator}2.0" in install(name)
    change_upstream(f"/+yank/{name}/2.0")
    until(lambda: f"{name}{separator}1.0" in install(name), "the yanked release is still installed")
    assert '"yanked":"broken"' in mirror.page(name).text


@INSTALLERS
def test_a_quarantined_project_is_not_installed(
    install: Callable[..., str], separator: str, request: pytest.FixtureRequest
) -> None:
    name = f"quarantined{request.node.callspec.id}"
    publish(name)
    assert f"{name}{separator}2.0" in install(name)
    change_upstream(f"/+status/{name}/quarantined")
    until(lambda: f"{name}{separator}" not in install(name), "the quarantined release is still installed")
    assert json.loads(mirror.page(name).text)["project-status"] == {"status": "quarantined", "reason": "malware"}
    assert 'content="quarantined"' in mirror.ask(f"{PUBLIC}{name}/", Accept="text/html").text


@INSTALLERS
def test_a_removed_project_disappears_and_is_reported(
    install: Callable[..., str], separator: str, request: pytest.FixtureRequest
) -> None:
    name = f"removed{request.node.callspec.id}"
    publish(name)
    assert f"{name}{separator}2.0" in install(name)
    change_upstream(f"/+remove/{name}")
    until(lambda: mirror.page(name).status == 404, "the removed project is still served", RECOVERY_LIMIT)
    assert f"{name}{separator}" not in install(name)
    assert name in [item["project"] for item in mirror.state()["removed_projects"]]
    # A new project of the same name is found.
    publish(name)
    until(lambda: f"{name}{separator}2.0" in install(name), "the new project is not found")


@pytest.fixture(scope="module")
def _idle_time() -> None:
    """Change projects at the upstream after a long time without requests for their pages."""
    projects = [(f"idle{change}{client}", path) for change, path in CHANGES.items() for client in ("pip", "uv")]
    for name, _path in projects:
        publish(name)
        assert mirror.page(name).status == 200
    # There is no condition to wait for: any request would make the mirror revalidate a page.
    time.sleep(FRESHNESS + MAX_STALE + 1)
    for name, path in projects:
        change_upstream(path.format(name))


@INSTALLERS
@pytest.mark.parametrize(
    ("change", "version"),
    [("yanked", "1.0"), ("published", "3.0"), ("quarantined", ""), ("removed", ""), ("denied", "")],
)
@pytest.mark.usefixtures("_idle_time")
def test_the_first_installation_after_a_long_idle_time_is_current(
    install: partial[str], separator: str, change: str, version: str
) -> None:
    name = f"idle{change}{install.func.__name__}"
    if change == "removed":
        # A removal is confirmed by a second response of the upstream, some seconds later.
        until(lambda: mirror.page(name).status == 404, "the removed project is still served")
    output = install(name)
    if version:
        assert f"{name}{separator}{version}" in output
    else:
        assert f"{name}{separator}" not in output
        assert name in output


def test_without_the_upstream_an_old_page_is_served_and_marked() -> None:
    name = "unconfirmed"
    publish(name)
    assert "warning" not in mirror.page(name).headers
    let_page_become_stale(name)
    assert f"{name}==2.0" in uv(name)


def test_a_new_project_is_found_soon_after_a_404() -> None:
    name = "late"
    assert mirror.page(name).status == 404
    publish(name)
    until(lambda: mirror.page(name).status == 200, "the new project is not found", 15)


def test_a_page_has_all_fields_of_the_upstreams_page() -> None:
    name = "faithful"
    publish(name)
    own = json.loads(send(UPSTREAM_PORT, f"/simple/{name}/").body)
    page = json.loads(mirror.page(name).text)
    for file in (*own["files"], *page["files"]):
        file.pop("url")
    assert [file.pop("core-metadata") for file in page["files"]] == [True, True]
    assert page == own


@pytest.mark.parametrize(
    ("install", "option", "separator"),
    [pytest.param(pip, "--uploaded-prior-to", "-", id="pip"), pytest.param(uv, "--exclude-newer", "==", id="uv")],
)
def test_limits_of_release_age_select_the_same_as_at_the_upstream(
    install: Callable[..., str], option: str, separator: str
) -> None:
    publish("aged")
    assert f"aged{separator}2.0" in install("aged")
    assert f"aged{separator}1.0" in install(option, "2020-12-31T00:00:00Z", "aged")


@pytest.mark.parametrize("path", ["/root/pypi/+simple/Non.Normalized_Name/", "/root/pypi/+simple/non-normalized-name"])
def test_other_spellings_of_a_name_redirect_to_the_address_that_the_client_used(path: str) -> None:
    for host in ("localhost:8080", "mirror.example", f"{address()}:3141"):
        answer = mirror.ask(path, Host=host)
        assert (answer.status, answer.headers["location"]) == (302, "/root/pypi/+simple/non-normalized-name/")


@pytest.mark.parametrize(
    "path", ["/simple/", "/simple", "/simple/alpha/", "/root/pypi/simple/", "/root/pypi/simple/alpha/"]
)
def test_a_guessed_url_is_a_404_with_the_correct_url(path: str) -> None:
    answer = mirror.ask(path)
    assert answer.status == 404
    assert f"http://{address()}:{mirror.port}{PUBLIC}" in answer.text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/vnd.pypi.simple.latest+json", JSON),
        (f"text/html;q=0.1, {JSON};q=0.9", JSON),
        (f"{JSON};q=0.1, text/html;q=0.9", "text/html; charset=utf-8"),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html"),
        ("*/*", "text/html; charset=utf-8"),
    ],
)
def test_the_form_that_a_client_prefers_is_served(accept: str, content_type: str) -> None:
    for _attempt in range(2):
        assert mirror.ask(f"{PUBLIC}alpha/", Accept=accept).headers["content-type"] == content_type
