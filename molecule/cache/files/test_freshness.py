"""What pip and uv install after the upstream has yanked, removed or quarantined a release, or with a limit of its age."""

from __future__ import annotations

import json
from functools import partial
from typing import Callable

import installers
import pytest
from conversation import (
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
# As the scenario sets it: after so many seconds, a client waits for the upstream.
MAX_STALE = 20
# Each returns what the installer prints about the release of a project that it would install.
pip = partial(installers.pip, "install", "--dry-run", "--ignore-installed")
uv = partial(installers.uv, "--dry-run", "--reinstall")
INSTALLERS = pytest.mark.parametrize(
    ("install", "separator"), [pytest.param(pip, "-", id="pip"), pytest.param(uv, "==", id="uv")]
)


def change_upstream(path: str) -> None:
    assert send(UPSTREAM_PORT, path, "POST").status == 200


def publish(name: str) -> None:
    for version in ("1.0", "2.0"):
        publish_upstream(name, version)


def let_page_age(name: str) -> None:
    """Have the upstream fail until the mirror serves the page as one that the upstream does not confirm.

    The upstream still fails then, as a revalidation that is under way would otherwise confirm what a test is about to change.
    """
    set_upstream_mode("failing")
    until(
        lambda: "warning" in mirror.page(name).headers,
        f"the page of {name} does not age",
        MAX_STALE + RECOVERY_LIMIT,
    )


def confirmed_page(name: str) -> str:
    """Return the first page that the upstream has confirmed, that is, without a warning."""
    answers = [mirror.page(name)]

    def is_confirmed() -> bool:
        if "warning" in answers[-1].headers:
            answers.append(mirror.page(name))
        return "warning" not in answers[-1].headers

    until(is_confirmed, f"the page of {name} is not confirmed", RECOVERY_LIMIT)
    return answers[-1].text


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


def test_after_a_long_idle_time_the_first_client_gets_the_current_page() -> None:
    names = [f"idle{kind}" for kind in ("yanked", "published")]
    for name in names:
        publish(name)
        assert mirror.page(name).status == 200
    for name in names:
        let_page_age(name)
    change_upstream("/+yank/idleyanked/2.0")
    publish_upstream("idlepublished", "3.0")
    set_upstream_mode("well")
    # After a failure the mirror does not wait for the upstream for some seconds. The next page without the warning is current.
    for name, text in (("idleyanked", '"yanked":"broken"'), ("idlepublished", "-3.0-")):
        assert text in confirmed_page(name)


def test_without_the_upstream_an_old_page_is_served_and_marked() -> None:
    name = "unconfirmed"
    publish(name)
    assert "warning" not in mirror.page(name).headers
    let_page_age(name)
    assert f"{name}==2.0" in uv(name)


def test_a_new_project_is_found_soon_after_a_404() -> None:
    name = "late"
    assert mirror.page(name).status == 404
    publish(name)
    until(lambda: mirror.page(name).status == 200, "the new project is not found", 15)


def test_a_page_is_the_upstreams() -> None:
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
def test_other_spellings_redirect_to_the_address_that_the_client_used(path: str) -> None:
    for host in ("localhost:8080", "mirror.example", f"{address()}:3141"):
        answer = mirror.ask(path, Host=host)
        assert (answer.status, answer.headers["location"]) == (302, "/root/pypi/+simple/non-normalized-name/")


@pytest.mark.parametrize(
    "path", ["/simple/", "/simple", "/simple/alpha/", "/root/pypi/simple/", "/root/pypi/simple/alpha/"]
)
def test_a_guessed_url_is_a_404_with_the_right_one(path: str) -> None:
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
