# SPDX-License-Identifier: GPL-3.0-or-later
"""The package policies of the mirror index root/strict, from which the private index acme/strict inherits."""

from __future__ import annotations

import json
from typing import Any

from harness import UPSTREAM_PORT, on_host, send, until
from index_state import INDEXES, YOUNG, mirror, releases
from plays import run_play, succeed

DOWNLOAD = "cd $(mktemp -d); ~/probe/bin/pip --disable-pip-version-check download --no-cache-dir --no-deps"
ADDRESS = "http://127.0.0.1:3141"


def names(index: str, project: str) -> set[str]:
    return {name.split("-")[1] for name in releases(index, project)}


def path_of(version: str, project: str = "delta") -> str:
    """Return the path of a release in root/strict, which can be hidden there and is listed by root/other."""
    return releases("root/other", project)[f"{project}-{version}-py3-none-any.whl"].replace("root/other", "root/strict")


def with_policy(**rules: Any) -> dict[str, Any]:
    """Return the variables of a play in which root/strict has other rules."""
    unlisted = {"min_release_age_exceptions": [], "allow": [], "hide_yanked": False}
    strict = INDEXES["root/strict"] | unlisted | rules
    return {"devpi_server_indexes": list((INDEXES | {"root/strict": strict}).values())}


def test_young_and_blocked_releases_are_not_listed() -> None:
    assert names("root/other", "delta") == {"1.0", "1.1", YOUNG}
    assert names("root/strict", "delta") == names("acme/strict", "delta") == {"1.0"}


def test_a_hidden_file_is_refused_with_the_rule() -> None:
    for version, rule in ((YOUNG, "min_release_age: 365d, available at 20"), ("1.1", "block: delta==1.1")):
        for suffix in ("", ".metadata"):
            answer = mirror.ask(path_of(version) + suffix)
            assert (answer.status, rule in answer.text) == (403, True), answer
    (path,) = releases("acme/strict", "delta").values()
    assert mirror.ask(path).status == mirror.ask(f"{path}.metadata").status == 200


def test_pip_gets_the_newest_release_that_is_listed() -> None:
    downloaded = on_host(
        f"runuser -u ada -- env HOME=/home/ada sh -ec '{DOWNLOAD} --index-url {ADDRESS}/acme/strict/+simple/ delta >&2; ls'"
    )
    assert downloaded.split() == ["delta-1.0-py3-none-any.whl"]


def test_pip_shows_why_a_locked_release_is_hidden() -> None:
    output = on_host(f"runuser -u ada -- env HOME=/home/ada sh -c '{DOWNLOAD} {ADDRESS}{path_of(YOUNG)} 2>&1 || true'")
    assert "403" in output
    assert "Hidden by min_release_age: 365d" in output


def test_a_change_takes_effect_at_once_also_for_downloaded_files() -> None:
    path = path_of("1.0")
    assert mirror.ask(path).status == 200
    variables = with_policy(block=["delta==1.0"], min_release_age_exceptions=["delta>1"])
    predicted = succeed("devpi.mirror.site", "--check", "--diff", variables=variables)
    assert mirror.ask(path).status == 200
    done = succeed("devpi.mirror.site", "--diff", variables=variables)
    assert predicted.changed == done.changed
    assert [task.rsplit(" | ", 1)[-1] for task in done.changed] == ["Create or change indexes"]
    until(lambda: mirror.ask(path).status == 403, "a blocked file that was downloaded is served")
    until(lambda: names("acme/strict", "delta") == {"1.1", YOUNG}, "the page has another policy")
    assert mirror.ask(path_of(YOUNG)).status == 200


def test_a_permitted_file_is_served_while_devpi_does_not_respond() -> None:
    path = path_of(YOUNG)
    # For a second after the download, each of nginx's workers can still have noted that the file is missing, and asks devpi.
    until(lambda: all(mirror.ask(path).is_cached for _attempt in range(100)), "nginx does not serve the file itself")
    on_host("pkill -STOP -f '[d]evpi_mirror.server'")
    try:
        assert mirror.ask(path, limit=5).status == 200
    finally:
        on_host("pkill -CONT -f '[d]evpi_mirror.server'")


def test_only_allowed_releases_that_are_not_yanked() -> None:
    send(UPSTREAM_PORT, "/+yank/delta/1.0", "POST")
    succeed("devpi.mirror.site", variables=with_policy(block=[], allow=["epsilon", "del*<2"], hide_yanked=True))
    until(lambda: names("acme/strict", "delta") == {"1.1"}, "a release is listed that is yanked or not allowed")
    for version in ("1.0", YOUNG):
        assert mirror.ask(path_of(version)).status == 403


def test_the_status_and_doctor_list_hidden_files() -> None:
    found = mirror.state()["hidden"]["files"]
    assert {file["filename"].split("-")[1] for file in found if file["project"] == "delta"} == {"1.0", YOUNG}
    assert "root/strict" in succeed("devpi.mirror.doctor").output


def test_an_upstream_without_upload_times_is_refused() -> None:
    undated = {
        "name": "root/undated", "type": "mirror", "mirror_url": "http://192.0.2.1:8099/undated/",
        "mirror_no_project_list": True, "min_release_age": "7d", "upload_time_project": "alpha",
    }  # fmt: skip
    outcome = run_play("devpi.mirror.site", variables={"devpi_server_indexes": [*INDEXES.values(), undated]})
    assert outcome.status != 0
    assert "lists no upload times" in " ".join(outcome.output.split())
    assert mirror.ask("/root/undated?no_projects=", Accept="application/json").status == 404


def test_credentials_are_sent_to_the_upstream_and_shown_to_nobody() -> None:
    seen = json.loads(send(UPSTREAM_PORT, "/+authorizations").text)
    assert [UPSTREAM_PORT, "Basic Ym9iOnMzY3JldA=="] in seen
    # It also restores the policy.
    output = succeed("devpi.mirror.site", "-vvv", "--diff", variables=with_policy()).output
    shown = json.dumps(mirror.call("GET", "/", None)) + mirror.log() + on_host("ps -ef; journalctl --no-pager")
    assert "s3cret" not in output + shown
