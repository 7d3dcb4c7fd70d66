# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.invalid_users import FilterModule

invalid_users = FilterModule().filters()["invalid_users"]
HASH = "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"


def test_valid_users():
    users = [
        {"name": "acme", "email": "acme@example.com"},
        {"name": "bot", "password": "secret", "pwhash": None, "update_password": "on_create"},
        {"name": "ada", "pwhash": HASH},
        {"name": 2026, "password": 1234},
        {"name": "root", "title": "x"},
    ]
    assert invalid_users(users) == []


@pytest.mark.parametrize(
    ("user", "cause"),
    [
        ({"name": "."}, "is not a valid name"),
        ({"name": "a b"}, "is not a valid name"),
        ({"name": "ada\n"}, "is not a valid name"),
        ({"name": "ad\u00e4"}, "not ASCII"),
        ({"name": "ada", "password": ""}, "password is empty"),
        ({"name": "ada", "pwhash": ""}, "pwhash is empty"),
        ({"name": "ada", "pwhash": "secret"}, "pwhash is not a hash of Argon2"),
        ({"name": "ada", "pwhash": HASH, "password": "secret"}, "It has a password and a pwhash."),
        ({"name": "root", "password": "secret"}, "devpi_server_root_password"),
    ],
)
def test_an_invalid_user_is_named(user, cause):
    (message,) = invalid_users([user])
    assert message.startswith(f"devpi_server_users, {user['name']}: ")
    assert cause in message
    assert "secret" not in message
    assert "Nothing was changed" not in message


def test_a_user_that_is_listed_twice():
    assert invalid_users([{"name": "2026"}, {"name": 2026}]) == [
        "devpi_server_users lists 2026 twice: remove one of them."
    ]
