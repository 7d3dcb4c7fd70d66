# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.devpi.mirror.plugins.modules import devpi_user, devpi_user_info

ROOT = {"url_username": "root", "url_password": "secret-of-root"}
HASH = "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"


@pytest.fixture
def ada(server):
    """The server with the user ada."""
    server.users["ada"] = {"email": "ada@example.com", "indexes": {"dev": {"volatile": True}}}
    server.passwords["ada"] = "secret-of-ada"
    return server


def run(run_module, name, check_mode=False, **options):
    return run_module(devpi_user, {**ROOT, "name": name, **options}, check_mode, diff=True)


@pytest.mark.parametrize(
    ("name", "options", "is_new_password"),
    [
        ("bob", {}, False),
        ("bob", {"password": "new-secret", "email": "bob@example.com"}, True),
        ("bob", {"password": "new-secret", "update_password": "on_create"}, True),
        ("ada", {"email": "new@example.com"}, False),
        ("ada", {"email": "", "custom_data": {"team": ["a"]}}, False),
        ("ada", {"password": "new-secret"}, True),
        ("ada", {"password": "new-secret", "title": "Ada"}, True),
        ("ada", {"state": "absent"}, False),
    ],
)
def test_check_mode_predicts_the_change_and_a_second_run_changes_nothing(
    run_module, ada, name, options, is_new_password
):
    predicted = run(run_module, name, check_mode=True, **options)
    assert ada.changes == []
    changed = run(run_module, name, **options)
    assert predicted.result == changed.result
    assert (changed.result["changed"], changed.result["password_changed"]) == (True, is_new_password)
    assert "new-secret" not in json.dumps(changed.result)
    assert len(ada.changes) == 1
    again = run(run_module, name, **options)
    assert (again.result["changed"], again.result["password_changed"]) == (False, False)
    assert again.result["diff"]["before"] == again.result["diff"]["after"]
    assert len(ada.changes) == 1


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"password": "secret-of-ada"}, []),
        ({"password": "other", "update_password": "on_create"}, []),
        ({"pwhash": HASH}, []),
        ({"email": "ada@example.com", "title": "", "custom_data": {}}, []),
        ({"password": "other"}, [("PATCH", "/ada", {"password": "other"})]),
        ({"password": "secret-of-ada", "title": "x"}, [("PATCH", "/ada", {"title": "x"})]),
    ],
)
def test_existing_user(run_module, ada, options, changes):
    assert run(run_module, "ada", **options).result["changed"] is bool(changes)
    assert ada.changes == changes


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({"pwhash": HASH}, {"password": None, "pwhash": HASH}),
        ({"password": "secret", "email": "x"}, {"password": "secret", "email": "x"}),
    ],
)
def test_new_user(run_module, ada, options, body):
    assert run(run_module, "bob", **options).result["changed"]
    assert ada.changes == [("PUT", "/bob", body)]


def test_a_new_user_without_a_password_has_a_random_one(run_module, ada):
    passwords = set()
    for name in ("bob", "carol"):
        result = run(run_module, name, title="x").result
        assert (result["changed"], result["password_changed"]) == (True, False)
        method, path, body = ada.changes.pop()
        assert (method, path, body["title"]) == ("PUT", f"/{name}", "x")
        assert body["password"] not in str(result)
        passwords.add(body["password"])
    assert len(passwords) == 2
    assert all(len(password) > 40 for password in passwords)


def test_diff_shows_that_a_password_changes_but_not_the_password(run_module, ada):
    diff = run(run_module, "ada", password="new-secret").result["diff"]
    assert diff["before"] == {"email": "ada@example.com"}
    assert diff["after"] == {"email": "ada@example.com", "password": "(changed)"}
    diff = run(run_module, "bob", pwhash=HASH).result["diff"]
    assert diff == {"before": {}, "after": {"password": "(changed)"}}


def test_own_password(run_module, ada):
    assert run(run_module, "root", password="new-secret").result["password_changed"]
    assert ada.passwords["root"] == "new-secret"
    # The task still has the old password of root.
    assert not run(run_module, "root", password="new-secret").result["changed"]
    assert "url_password is wrong" in run(run_module, "root", password="third-secret").result["msg"]
    assert "url_password is wrong" in run(run_module, "ada", password="new-secret").result["msg"]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a b", {}, "is not a valid name"),
        ("ada/dev", {"state": "absent"}, "is not a valid name"),
        ("", {}, "is not a valid name"),
        ("ada", {"state": "absent", "password": "x-secret"}, "has no password"),
        ("ada", {"state": "absent", "pwhash": HASH}, "has no pwhash"),
        ("root", {"state": "absent"}, "root can't be removed"),
        ("bob", {"password": ""}, "password is empty"),
        ("bob", {"pwhash": "x-secret"}, "not a hash of Argon2"),
        ("bob", {"pwhash": "$6$x-secret$x"}, "not a hash of Argon2"),
        ("bob", {"url_password": "x-secret"}, "url_password is wrong"),
        ("bob", {"url_username": "ada", "url_password": "secret-of-ada"}, "the user ada has no permission"),
        ("ada", {"title": "x", "url_username": "ada", "url_password": "secret-of-ada"}, "has no permission"),
    ],
)
def test_refused(run_module, ada, name, options, reason):
    before = json.dumps(ada.users)
    ended = run(run_module, name, **options)
    assert ended.failed
    assert reason in ended.result["msg"]
    assert "Nothing was changed." in ended.result["msg"]
    assert "x-secret" not in ended.result["msg"]
    assert json.dumps(ada.users) == before


def test_user_with_a_non_volatile_index(run_module, ada):
    ada.users["ada"]["indexes"]["dev"]["volatile"] = False
    assert "non-volatile indexes ada/dev" in run(run_module, "ada", state="absent").result["msg"]
    assert ada.changes == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"title": "x"}, "did not store all"), ({"password": "new-secret"}, "does not accept a login")],
)
def test_change_that_devpi_ignores(run_module, ada, options, message):
    ada.refusals["PATCH", "/ada"] = (200, {"message": "user updated"})
    ended = run(run_module, "ada", **options)
    assert ended.failed
    assert message in ended.result["msg"]


def test_secrets_are_no_log(run_module, ada, monkeypatch):
    values = set()
    monkeypatch.setattr(devpi_user, "check", lambda params: None)
    monkeypatch.setattr(devpi_user, "apply", lambda module, api: values.update(module.no_log_values) or ({}, {}, False))
    run(run_module, "ada", password="new-secret")
    run(run_module, "bob", pwhash=HASH)
    assert {"new-secret", HASH, "secret-of-root"} <= values
    assert run_module(devpi_user, {**ROOT, "name": "bob", "password": "a", "pwhash": HASH}).failed


def test_info(run_module, ada):
    ada.users["ada"]["pwhash"] = "secret"
    expected = {"email": "ada@example.com", "indexes": ["ada/dev"]}
    assert run_module(devpi_user_info, {}).result["users"] == {"root": {"indexes": []}, "ada": expected}
    assert run_module(devpi_user_info, {"name": "ada"}).result["users"] == {"ada": expected}
    assert run_module(devpi_user_info, {"name": "bob"}).result["users"] == {}
    assert "is not a valid name" in run_module(devpi_user_info, {"name": "a b"}).result["msg"]
