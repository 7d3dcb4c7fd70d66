# SPDX-License-Identifier: GPL-3.0-or-later
"""The users and indexes that the role creates, changes and removes, and the packages that clients get from them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin

import pytest
from harness import JSON, Mirror, User, on_host, publish_upstream, send
from plays import run_play, succeed

SECRETS = ("secret-of-root", "secret-of-bot", "secret-of-carol", "another-secret")
STABLE = {"name": "acme/stable", "bases": ["root/pypi"], "volatile": False, "acl_upload": ["bot"]}
DEV = {"name": "acme/dev", "bases": ["acme/stable"], "acl_upload": ["bot", "carol"], "mirror_whitelist": []}
OTHER = {"name": "root/other", "type": "mirror", "mirror_url": "http://192.0.2.1:8099/other/"}
ACME = {"name": "acme"}
BOT = {"name": "bot", "password": "secret-of-bot", "email": "bot@example.com"}
CAROL = {"name": "carol", "password": "another-secret", "update_password": "on_create"}
mirror = Mirror()


def uploader(name: str, index: str) -> User:
    user = mirror.log_in(name, f"secret-of-{name}")
    user.index = f"/{index}/"
    return user


def settings(index: str) -> Any:
    return mirror.call("GET", f"/{index}?no_projects=", None)


def exists(path: str) -> bool:
    return mirror.ask(path, Accept="application/json").status == 200


def releases(index: str, project: str) -> dict[str, str]:
    """Return the path of each file of a project, by name."""
    page = f"/{index}/+simple/{project}/"
    return {
        file["filename"]: urljoin(page, file["url"]) for file in json.loads(mirror.ask(page, Accept=JSON).text)["files"]
    }


def serial() -> str:
    return mirror.ask("/+api").headers["x-devpi-serial"]


def test_indexes_have_their_settings() -> None:
    stable, dev, other = (settings(index) for index in ("acme/stable", "acme/dev", "root/other"))
    assert (stable["type"], stable["bases"], stable["volatile"], stable["acl_upload"]) == (
        "stage", ["root/pypi"], False, ["bot"],
    )  # fmt: skip
    assert (dev["bases"], dev["volatile"], dev["acl_upload"]) == (["acme/stable"], True, ["bot", "carol"])
    assert (other["type"], other["mirror_url"]) == ("mirror", OTHER["mirror_url"])


def test_users_can_log_in() -> None:
    for name in ("root", "bot", "carol"):
        mirror.log_in(name, f"secret-of-{name}")


def test_a_user_without_a_password_cannot_log_in() -> None:
    for password in ("", "secret-of-acme", None):
        answer = send(
            mirror.port, "/+login", "POST", json.dumps({"user": "acme", "password": password}).encode(),
            Content_Type="application/json",
        )  # fmt: skip
        assert answer.status in (400, 401)


def test_a_private_release_hides_public_ones() -> None:
    publish_upstream("alpha", "99.0")
    uploader("bot", "acme/stable").upload("alpha", "0.5")
    assert list(releases("acme/dev", "alpha")) == ["alpha-0.5-py3-none-any.whl"]
    # It was public before it was private.
    publish_upstream("gamma", "99.0")
    assert "gamma-1.0-py3-none-any.whl" in releases("acme/dev", "gamma")
    uploader("carol", "acme/dev").upload("gamma", "0.5")
    assert list(releases("acme/dev", "gamma")) == ["gamma-0.5-py3-none-any.whl"]


def test_clients_install_private_and_public_releases() -> None:
    listed = on_host(
        "runuser -u ada -- env HOME=/home/ada sh -ec 'cd $(mktemp -d); python3 -m venv venv;"
        " venv/bin/pip --disable-pip-version-check download --no-cache-dir --no-deps alpha beta >&2; ls *.whl'"
    )
    assert listed.split() == ["alpha-0.5-py3-none-any.whl", "beta-1.0-py3-none-any.whl"]


def test_the_second_mirror_has_its_own_upstream() -> None:
    send(8099, "/+other/delta/7.0", "POST")
    (path,) = releases("root/other", "delta").values()
    assert path.endswith("delta-7.0-py3-none-any.whl")
    assert mirror.ask(path).status == 200


def test_only_listed_users_can_upload() -> None:
    with pytest.raises(AssertionError, match="403"):
        uploader("carol", "acme/stable").upload("delta", "1.0")


def test_a_second_run_keeps_the_serial() -> None:
    before = serial()
    assert succeed("devpi.mirror.site").changed == []
    assert serial() == before


def test_check_mode_reports_what_the_play_then_changes() -> None:
    variables = {
        "devpi_server_users": [ACME, BOT | {"title": "Uploads releases"}, CAROL, {"name": "dave"}],
        "devpi_server_indexes": [STABLE, DEV | {"bases": ["acme/stable", "root/pypi"]}, OTHER],
    }
    before = serial()
    predicted = succeed("devpi.mirror.site", "--check", "--diff", variables=variables)
    assert serial() == before
    done = succeed("devpi.mirror.site", "--diff", variables=variables)
    assert predicted.changed == done.changed
    assert [task.rsplit(" | ", 1)[-1] for task in done.changed] == [
        "Create or change users",
        "Create or change indexes",
    ]
    assert settings("acme/dev")["bases"] == ["acme/stable", "root/pypi"]
    # Her password is that of her creation.
    mirror.log_in("carol", "secret-of-carol")


def test_prune_keeps_released_packages() -> None:
    variables = {"devpi_server_prune": True, "devpi_server_users": [ACME], "devpi_server_indexes": [DEV]}
    outcome = run_play("devpi.mirror.site", variables=variables)
    assert outcome.status != 0
    assert "acme/stable can't be removed" in " ".join(outcome.output.split())
    assert exists("/acme/stable?no_projects=")


def test_prune_removes_what_is_not_listed() -> None:
    variables = {"devpi_server_prune": True, "devpi_server_users": [], "devpi_server_indexes": [STABLE, DEV]}
    predicted = succeed("devpi.mirror.site", "--check", "--diff", variables=variables)
    done = succeed("devpi.mirror.site", variables=variables)
    assert predicted.changed == done.changed
    assert sorted(mirror.call("GET", "/", None)) == ["acme", "root"]
    assert (exists("/root/other?no_projects="), exists("/root/pypi?no_projects=")) == (False, True)
    assert "alpha-0.5-py3-none-any.whl" in releases("acme/dev", "alpha")


def test_the_password_of_root_can_be_changed() -> None:
    # The changed freshness restarts the container, which applies its settings as root.
    variables = {"devpi_server_root_password": "another-secret", "devpi_server_freshness": 3}
    outcome = succeed("devpi.mirror.site", "-vvv", "--diff", variables=variables)
    mirror.log_in("root", "another-secret")
    assert mirror.state()["problems"] == []
    assert not [secret for secret in SECRETS if secret in outcome.output]
    succeed("devpi.mirror.site", variables={"devpi_server_upstream_url": "http://192.0.2.1:8099/other/", **variables})
    assert mirror.state()["problems"] == []


def test_passwords_are_not_on_the_host() -> None:
    found = on_host(f"grep -rlE '{'|'.join(SECRETS)}' /etc /home /root /run /var/log /var/tmp /tmp 2>/dev/null || true")
    assert found == ""
    journal = on_host("journalctl --no-pager")
    assert not [secret for secret in SECRETS if secret in journal]


def test_passwords_are_not_in_error_messages() -> None:
    for user in ({"name": "eve", "update_password": "no"}, {"name": "e ve"}, {}, {"name": "eve", "pasword": "x"}):
        variables = {"devpi_server_users": [{"password": "secret-of-bot", **user}]}
        outcome = run_play("devpi.mirror.site", "-v", variables=variables)
        assert outcome.status != 0, user
        assert "secret-of-bot" not in outcome.output
