# SPDX-License-Identifier: GPL-3.0-or-later
"""What users, indexes and clients must find in every state of the mirror: deployed, offline, restored and upgraded.

The tests leave the state as it was. Not all public pages and files can be requested from the upstream.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest
from harness import User, on_host, send
from index_state import (
    DELTA,
    DELTA_FILE,
    PASSWORDS,
    PRIVATE_RELEASES,
    RECORD,
    YOUNG,
    mirror,
    private_files,
    releases,
    serial,
    uploader,
    users_and_indexes,
)
from plays import succeed

# The variables of the state, such as the release of devpi.
VARIABLES = json.loads(os.environ["PLAY_VARIABLES"])


@pytest.fixture(scope="module")
def recorded() -> Any:
    """The users, the indexes and the private files after the deployment."""
    return json.loads(RECORD.read_text())


def test_users_and_indexes_are_as_described(recorded: Any) -> None:
    found = users_and_indexes()
    stable, dev, other = (found["indexes"][name] for name in ("acme/stable", "acme/dev", "root/other"))
    assert (stable["type"], stable["bases"], stable["volatile"], stable["acl_upload"]) == (
        "private", ["root/pypi"], False, ["bot"],
    )  # fmt: skip
    assert (dev["bases"], dev["volatile"], dev["acl_upload"]) == (["acme/stable"], True, ["bot", "carol"])
    assert (other["type"], other["mirror_url"]) == ("mirror", "http://192.0.2.1:8099/other/")
    assert found["users"] == recorded["users"]
    assert found["indexes"] == recorded["indexes"]


def test_users_can_log_in() -> None:
    for name, password in PASSWORDS.items():
        mirror.log_in(name, password)
    # The mirror applies its own settings as root.
    assert mirror.state()["problems"] == []


def test_a_user_without_a_password_cannot_log_in() -> None:
    for password in ("", "secret-of-acme", None):
        answer = send(
            mirror.port, "/+login", "POST", json.dumps({"user": "acme", "password": password}).encode(),
            Content_Type="application/json",
        )  # fmt: skip
        assert answer.status in (400, 401)


@pytest.mark.parametrize("path", ["", "/+simple/", "/+simple/alpha/"])
def test_only_some_users_can_read_a_restricted_index(path: str) -> None:
    def status(name: str) -> int:
        credentials = base64.b64encode(f"{name}:{PASSWORDS[name]}".encode()).decode()
        accept = "text/html" if "+simple" in path else "application/json"
        return send(mirror.port, f"/acme/secret{path}", Accept=accept, Authorization=f"Basic {credentials}").status

    answer = send(mirror.port, f"/acme/secret{path}")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="pypi"')
    assert status("carol") == 200
    assert status("bot") == 403


def test_private_files_are_unchanged(recorded: Any) -> None:
    assert private_files() == recorded["files"]


def test_a_private_release_hides_public_ones() -> None:
    for _index, _user, project, version in PRIVATE_RELEASES:
        assert list(releases("acme/dev", project)) == [f"{project}-{version}-py3-none-any.whl"]


def test_clients_install_private_and_public_releases() -> None:
    installed = on_host(
        "runuser -u ada -- env HOME=/home/ada sh -ec 'cd $(mktemp -d);"
        " ~/probe/bin/pip --disable-pip-version-check install --no-cache-dir --no-deps --target . alpha beta gamma >&2;"
        " ls -d *.dist-info'"
    )
    assert installed.split() == ["alpha-0.5.dist-info", "beta-1.0.dist-info", "gamma-0.5.dist-info"]


def test_the_second_mirror_has_its_own_upstream() -> None:
    found = releases("root/other", "delta")
    assert set(found) == {DELTA_FILE.format(version) for version in DELTA}
    assert mirror.ask(found[DELTA_FILE.format(YOUNG)]).status == 200


def test_package_policies_apply() -> None:
    ((name, path),) = releases("acme/strict", "delta").items()
    assert name == DELTA_FILE.format("1.0")
    assert mirror.ask(path).status == 200
    hidden = releases("root/other", "delta")[DELTA_FILE.format(YOUNG)].replace("root/other", "root/strict")
    answer = mirror.ask(hidden)
    assert (answer.status, "min_release_age: 365d" in answer.text) == (403, True)


def test_a_token_remains_valid(recorded: Any) -> None:
    bot = User(mirror, "bot", base64.b64encode(f"bot:{recorded['token']}".encode()).decode())
    bot.index = "/acme/dev/"
    bot.upload("epsilon", "0.6")
    uploader("bot", "acme/dev").delete("epsilon", "0.6")


def test_only_listed_users_can_upload() -> None:
    carol = uploader("carol", "acme/dev")
    carol.upload("epsilon", "0.5")
    assert list(releases("acme/dev", "epsilon")) == ["epsilon-0.5-py3-none-any.whl"]
    carol.delete("epsilon", "0.5")
    anonymous = User(mirror, "acme", "")
    anonymous.index = "/acme/dev/"
    for user in (uploader("carol", "acme/stable"), anonymous):
        with pytest.raises(AssertionError, match=r"^40[13] "):
            user.upload("epsilon", "0.5")


def test_a_second_run_changes_nothing() -> None:
    before = serial()
    assert succeed("devpi.mirror.site", variables=VARIABLES).changed == []
    assert serial() == before
