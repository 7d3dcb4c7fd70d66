# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.invalid_indexes import FilterModule

invalid_indexes = FilterModule().filters()["invalid_indexes"]
VALID = [
    {"name": "acme/stable", "bases": ["root/pypi"], "volatile": False, "acl_upload": ["bot"]},
    {"name": "root/other", "type": "mirror", "mirror_url": "https://example.com/simple/"},
]


def test_valid_indexes():
    assert invalid_indexes(VALID) == []
    assert invalid_indexes([{"name": "acme/dev", "bases": "root/pypi", "acl_upload": "bot"}]) == []
    assert (
        invalid_indexes(
            [{"name": "root/pypi", "mirror_cache_expiry": "5", "title": 7, "type": None, "block": ["x", 7]}]
        )
        == []
    )


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"name": "stable"}, "Use the form user/index"),
        ({"name": "root/other", "type": "mirror"}, "without mirror_url"),
        ({"name": "root/other", "mirror_url": "https://example.com/simple/"}, "no setting mirror_url"),
        (
            {"name": "root/other", "type": "mirror", "mirror_url": "https://a:secret@example.com/"},
            "contains credentials",
        ),
        ({"name": "acme/stable", "bases": ["pypi"]}, "bases"),
        ({"name": "root/pypi", "mirror_url": "https://example.com/simple/"}, "devpi_server_upstream_url"),
        ({"name": "root/pypi", "bases": ["acme/dev"]}, "A mirror index has no setting bases"),
        ({"name": "root/pypi", "min_release_age": 7}, "as in 7d"),
        ({"name": "root/pypi", "min_release_age": "99999999999999d"}, "more than 100 years"),
        ({"name": "root/pypi", "type": "private"}, "has the type mirror"),
        ({"name": "root/pypi", "upload_time_project": "a b"}, "upload_time_project: 'a b'"),
        ({"name": "root/pypi", "upload_time_project": ""}, "upload_time_project: ''"),
        ({"name": "acme/d\u00e9v"}, "not ASCII"),
        ({"name": "root/other", "type": "mirror", "mirror_url": "HTTPS://example.com/"}, "not a valid URL"),
        ({"name": "acme/stable", "block": ["evil"]}, "A private index has no setting block"),
    ],
)
def test_an_invalid_index_is_named(index, expected):
    (message,) = invalid_indexes([index])
    assert message.startswith(f"devpi_server_indexes, {index['name']}: ")
    assert expected in message
    assert "secret" not in message
    assert "Nothing was changed" not in message


@pytest.mark.parametrize("name", ["acme/stable", "acme/stable/", "/acme/stable"])
def test_an_index_that_is_listed_twice(name):
    assert invalid_indexes([*VALID, {"name": name}]) == [
        "devpi_server_indexes lists acme/stable twice: remove one of them."
    ]


def test_policies_of_root_pypi():
    assert (
        invalid_indexes([{"name": "root/pypi", "min_release_age": "7d", "block": ["evil-*"], "volatile": False}]) == []
    )
    assert invalid_indexes([{"name": "root/pypi", "type": "mirror", "hide_yanked": True}]) == []


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        (
            {"mirror_ignore_serial_header": True},
            "devpi-server 7 has no setting mirror_ignore_serial_header. Remove it.",
        ),
        ({"mirror_provides_core_metadata": True}, "has no setting mirror_provides_core_metadata"),
        ({"mirror_whitelist": ["flask"]}, "does not support mirror_whitelist ['flask']"),
    ],
)
def test_settings_that_devpi_7_does_not_support(settings, cause):
    index = {"name": "root/pypi" if "mirror_whitelist" not in settings else "acme/dev", **settings}
    assert invalid_indexes([index], release="6") == []
    (message,) = invalid_indexes([index], release="7")
    assert cause in message


EXISTING = {"root": {"indexes": ["root/pypi"]}, "eve": {"indexes": ["eve/dev", "eve/base"]}}
CHAIN = [
    {"name": "acme/base", "bases": ["root/pypi"]},
    {"name": "acme/dev", "bases": ["acme/base"], "acl_upload": ["bot"]},
]


@pytest.mark.parametrize("existing", [{}, EXISTING, None])
def test_listed_users_and_bases(existing):
    assert invalid_indexes(CHAIN, ["acme", "bot"], existing) == []


@pytest.mark.parametrize(
    ("indexes", "causes"),
    [
        ([{"name": "eve/dev", "bases": ["eve/base"]}], ["The user eve", "bases contains eve/base, and this index"]),
        ([{"name": "acme/x", "acl_upload": ["eve", ":ldap-group", ":anonymous:"]}], ["acl_upload contains eve, and"]),
        ([{"name": "acme/x", "acl_toxresult_upload": ["eve", "root"]}], ["acl_toxresult_upload contains eve, and"]),
    ],
)
def test_users_and_bases_of_the_server(indexes, causes):
    assert invalid_indexes(indexes, ["acme"], EXISTING) == []
    assert invalid_indexes(indexes, ["acme"], None) == []
    messages = invalid_indexes(indexes, ["acme"], {})
    assert len(messages) == len(causes)
    assert all(cause in " ".join(messages) for cause in causes)
    assert all("is not listed, and no mirror is running" in message for message in messages)


def test_missing_users_and_bases():
    messages = invalid_indexes(list(reversed(CHAIN)), ["acme"], EXISTING)
    assert messages == [
        "devpi_server_indexes, acme/dev: acl_upload contains bot, and this user does not exist. Add it to devpi_server_users.",
        "devpi_server_indexes, acme/dev: bases contains acme/base, and this index does not exist. List it before this one.",
    ]


@pytest.mark.parametrize(
    ("index", "cause"),
    [
        (
            {"name": "acme/x", "bases": ["eve/base"]},
            "bases contains eve/base, and this index {}. List it before this one.",
        ),
        ({"name": "acme/x", "acl_upload": ["eve"]}, "acl_upload contains eve, and this user {}. Add it to"),
        ({"name": "acme/x", "acl_toxresult_upload": ["eve"]}, "acl_toxresult_upload contains eve, and this user {}."),
        ({"name": "acme/x", "acl_read": ["eve"]}, "acl_read contains eve, and this user {}."),
    ],
)
def test_users_and_bases_that_are_removed(index, cause):
    assert invalid_indexes([index], ["acme"], EXISTING) == []
    assert invalid_indexes([index], ["acme"], None) == []
    (message,) = invalid_indexes([index], ["acme"], EXISTING, True)
    assert invalid_indexes([index], ["acme"], None, True) == [message]
    assert cause.format("is not listed, and devpi_server_prune would remove it") in message


def test_users_and_bases_that_are_not_removed():
    indexes = [
        {"name": "eve/dev", "bases": ["eve/base", "root/pypi"], "acl_upload": ["eve", "root"]},
        {"name": "eve/base"},
    ]
    assert invalid_indexes(indexes, [], EXISTING, True) == []
    assert invalid_indexes([{"name": "acme/x", "acl_upload": ["eve"]}], ["acme", "eve"], EXISTING, True) == []
    assert invalid_indexes(indexes, [], None, True) == []
    # The owner of a listed index must exist nevertheless.
    (message,) = invalid_indexes([{"name": "bob/dev"}], [], EXISTING, True)
    assert "The user bob does not exist" in message
    (message,) = invalid_indexes([{"name": "bob/dev"}], [], {}, True)
    assert "no mirror is running" in message


@pytest.mark.parametrize(
    "indexes",
    [
        [{"name": "a/x", "bases": ["a/x/"]}],
        [
            {"name": "a/w", "bases": ["a/x"]},
            {"name": "a/y", "bases": ["a/w"]},
            {"name": "a/x", "bases": ["a/y", "root/pypi"]},
        ],
    ],
)
def test_an_index_that_inherits_from_itself(indexes):
    (message,) = invalid_indexes(indexes)
    assert message.startswith("devpi_server_indexes, a/x: bases would make the index inherit from itself.")


def test_an_index_that_inherits_twice_from_another():
    indexes = [{"name": "a/x"}, {"name": "a/y", "bases": ["a/x"]}, {"name": "a/z", "bases": ["a/x", "a/y"]}]
    assert invalid_indexes(indexes) == []


def test_server_that_does_not_respond_in_older_releases_of_ansible():
    index = {"name": "ada/dev", "bases": ["ada/base"]}
    assert invalid_indexes([index], ["ada"], "") == invalid_indexes([index], ["ada"], None) == []


def test_users_of_an_ldap_server():
    indexes = [{"name": "acme/x", "acl_read": ["eve"], "acl_upload": ["eve"]}]
    assert len(invalid_indexes(indexes, ["acme"], {}, False, 6)) == 2
    assert invalid_indexes(indexes, ["acme"], {}, False, 6, True) == []
    assert len(invalid_indexes([{"name": "eve/x"}], ["acme"], {}, False, 6, True)) == 1
