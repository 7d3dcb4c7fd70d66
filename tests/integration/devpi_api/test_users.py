# SPDX-License-Identifier: GPL-3.0-or-later
"""The module devpi_user: each state of a user from each other state, and the password of root."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from servers import ADA_PASSWORD, OTHER_PASSWORD, ROOT_PASSWORD, Server, plain

# PWHASH is the hash of HASHED_PASSWORD.
HASHED_PASSWORD = "of-a-hash"
PWHASH = "$argon2id$v=19$m=1024,t=1,p=1$LqU0JmQs5dw759ybkzJmbA$s/DEpWNLrZPZDH1JRobSCcKU9J+YKtF8ZiKYAGCoBZY"
SETTINGS = ("email", "title", "description", "custom_data")
CHANGED = {"email": "ada@example.com", "title": "Ada", "description": "Programmer", "custom_data": {"team": ["a"]}}
CLEARED = {"email": "", "title": "", "description": "", "custom_data": {}}
STATES: dict[str, dict[str, Any]] = {
    "absent": {"state": "absent"},
    "without password": {},
    "password": {"password": ADA_PASSWORD},
    "password for new users": {"password": ADA_PASSWORD, "update_password": "on_create"},
    "settings and another password": {"password": OTHER_PASSWORD, **CHANGED},
    "cleared settings": {"password": OTHER_PASSWORD, **CLEARED},
    "hash": {"pwhash": PWHASH, "email": "ada@example.com"},
    "password of the hash": {"password": HASHED_PASSWORD},
}


# The states that differ from each other.
INITIAL = ("absent", "without password", "password", "settings and another password", "hash")
pytestmark = plain


@pytest.fixture(autouse=True)
def removed_ada(server: Server) -> Iterator[None]:
    """Remove the user ada after each test."""
    yield
    server.remove_user("ada")


def password_after(password: str | None, options: dict[str, Any], *, is_new: bool) -> str | None:
    """Return the password of a user after a task, None if no password is valid."""
    if options.get("state") == "absent":
        return None
    if is_new and "pwhash" in options:
        return HASHED_PASSWORD
    if is_new or options.get("update_password") != "on_create":
        return str(options["password"]) if "password" in options else password
    return password


@pytest.mark.parametrize("wanted", STATES)
@pytest.mark.parametrize("initial", INITIAL)
def test_each_state_from_each_other(server: Server, initial: str, wanted: str) -> None:
    before = server.apply("devpi_user", name="ada", **STATES[initial])["user"]
    old_password = password_after(None, STATES[initial], is_new=True)
    options = STATES[wanted]
    change = server.change("devpi_user", name="ada", **options)

    password = password_after(old_password, options, is_new=before is None)
    settings = {name: options[name] for name in SETTINGS if name in options}
    after = {name: value for name, value in {**(before or {}), **settings}.items() if value}
    expected = None if wanted == "absent" else after
    is_password_changed = wanted != "absent" and password != old_password
    assert change.actual["user"] == expected
    assert change.actual["password_changed"] == is_password_changed
    assert change.actual["changed"] == (before != expected or is_password_changed)
    assert change.serials == (1 if change.actual["changed"] else 0)
    assert change.predicted["diff"] == change.actual["diff"]
    assert change.predicted["user"] == change.actual["user"] == change.repeated["user"]
    assert change.predicted["password_changed"] == change.actual["password_changed"]
    assert not change.repeated["password_changed"]
    assert [one for one in (ADA_PASSWORD, OTHER_PASSWORD, HASHED_PASSWORD) if server.accepts("ada", one)] == (
        [password] if password else []
    )
    printed = json.dumps(change.results)
    for secret in (ADA_PASSWORD, OTHER_PASSWORD, HASHED_PASSWORD, PWHASH, ROOT_PASSWORD):
        assert secret not in printed


def test_root_changes_its_own_password(server: Server) -> None:
    server.apply("devpi_user", name="ada")
    change = {"name": "root", "password": OTHER_PASSWORD}
    try:
        # The second time, url_password is the previous password.
        for is_changed in (True, False):
            result = server.apply("devpi_user", **change)
            assert (result["changed"], result["password_changed"]) == (is_changed, is_changed)
        server.refuse("devpi_user", "url_password is wrong", name="ada", title="Never stored")
    finally:
        restored = server.apply("devpi_user", name="root", password=ROOT_PASSWORD, url_password=OTHER_PASSWORD)
    assert restored["password_changed"]
