# SPDX-License-Identifier: GPL-3.0-or-later
"""The users and indexes that the role creates, changes and removes, and their passwords."""

from __future__ import annotations

from typing import Any

from harness import on_host
from index_state import INDEXES, PASSWORDS, mirror, releases, serial
from plays import run_play, succeed

SECRETS = (*PASSWORDS.values(), "another-secret")
STABLE, DEV = INDEXES["acme/stable"], INDEXES["acme/dev"]
ACME = {"name": "acme"}
BOT = {"name": "bot", "password": "secret-of-bot", "email": "bot@example.com"}
CAROL = {"name": "carol", "password": "another-secret", "update_password": "on_create"}


def settings(index: str) -> Any:
    return mirror.call("GET", f"/{index}?no_projects=", None)


def exists(path: str) -> bool:
    return mirror.ask(path, Accept="application/json").status == 200


def test_check_mode_reports_what_the_play_then_changes() -> None:
    variables = {
        "devpi_server_users": [ACME, BOT | {"title": "Uploads releases"}, CAROL, {"name": "dave"}],
        "devpi_server_indexes": list((INDEXES | {"acme/dev": DEV | {"bases": ["acme/stable", "root/pypi"]}}).values()),
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
    """If one index can't be removed, none is removed."""
    independent = {**DEV, "bases": ["root/pypi"], "acl_upload": ["acme"]}
    variables = {"devpi_server_prune": True, "devpi_server_users": [ACME], "devpi_server_indexes": [independent]}
    outcome = run_play("devpi.mirror.site", variables=variables)
    assert outcome.status != 0
    assert "acme/stable can't be removed" in " ".join(outcome.output.split())
    assert (exists("/acme/stable?no_projects="), exists("/root/other?no_projects=")) == (True, True)


def test_prune_refuses_to_remove_what_listed_indexes_need() -> None:
    variables = {"devpi_server_prune": True, "devpi_server_users": [ACME], "devpi_server_indexes": [DEV]}
    outcome = run_play("devpi.mirror.site", variables=variables)
    assert (outcome.status != 0, outcome.changed) == (True, [])
    output = " ".join(outcome.output.split())
    assert "bases contains acme/stable, and this index is not listed, and devpi_server_prune would remove it" in output
    assert "acl_upload contains bot, and this user is not listed, and devpi_server_prune would remove it" in output


def test_prune_removes_what_is_not_listed() -> None:
    indexes = [{**index, "acl_upload": ["acme"]} for index in (STABLE, DEV)]
    variables = {"devpi_server_prune": True, "devpi_server_users": [], "devpi_server_indexes": indexes}
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
    # The names are checked after the options.
    options = [{"name": "eve", "update_password": "no"}, {}, {"name": "eve", "pasword": "x"}]
    for users, expected in (
        (options, ["update_password must be one of", "missing required arguments: name", "pasword"]),
        ([{"name": "e ve"}], ["e ve"]),
    ):
        variables = {"devpi_server_users": [{"password": "secret-of-bot", **user} for user in users]}
        outcome = run_play("devpi.mirror.site", "-v", variables=variables)
        assert outcome.status != 0, users
        output = " ".join(outcome.output.split())
        assert [text for text in expected if text not in output] == [], output
        assert "secret-of-bot" not in output
