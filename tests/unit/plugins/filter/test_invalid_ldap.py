# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.invalid_ldap import FilterModule

invalid_ldap = FilterModule().filters()["invalid_ldap"]
USERS = {"base": "dc=example", "filter": "(uid={username})"}
URL = "ldaps://ldap.example.com"
TEMPLATE = "uid={username},dc=example"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": URL, "user_template": TEMPLATE},
        {
            "url": URL + ":1636",
            "user_template": TEMPLATE,
            "timeout": "10",
            "ca_bundle": "/etc/ca.pem",
            "start_tls": "no",
        },
        {"url": "ldap://[2001:db8::1]", "start_tls": True, "user_search": USERS, "user_template": ""},
        {"url": "ldap://ldap.example.com", "allow_plaintext": "true", "user_search": USERS},
        {"url": URL, "user_search": {**USERS, "userdn": "cn=search", "password": "secret"}},
        {"url": URL, "user_search": USERS, "group_search": {"base": "dc=example", "filter": "(member={userdn})"}},
    ],
)
def test_valid_options(options):
    assert invalid_ldap(options) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"url": None}, "url is no URL"),
        ({"url": "https://ldap.example.com"}, "url is no URL"),
        ({"url": "ldaps://ada:secret@ldap.example.com"}, "url is no URL"),
        ({"url": URL + "/dc=example"}, "without a path"),
        ({"url": "ldap://ldap.example.com"}, "would send passwords unencrypted"),
        ({"start_tls": True}, "start_tls is for ldap://"),
        ({"user_search": USERS}, "either user_template or user_search"),
        ({"user_template": ""}, "either user_template or user_search"),
        ({"user_template": "uid=ada"}, "user_template must contain {username}"),
        ({"user_template": "uid={username},ou={ou}"}, "nothing else in braces"),
        ({"user_template": "uid={username"}, "user_template must contain {username}"),
        (
            {"user_template": "", "user_search": {**USERS, "filter": "(member={userdn})"}},
            "user_search.filter must contain",
        ),
        (
            {"user_template": "", "user_search": {**USERS, "userdn": "cn=search"}},
            "user_search needs userdn and password",
        ),
        ({"group_search": {**USERS, "password": "secret"}}, "group_search needs userdn and password"),
        ({"group_search": {**USERS, "filter": "(cn=x)"}}, "must contain {username} or {userdn}"),
        ({"timeout": 0}, "timeout is '0'"),
        ({"timeout": 90}, "timeout is '90'"),
        ({"ca_bundle": "ca.pem"}, "ca_bundle is 'ca.pem'"),
    ],
)
def test_an_invalid_option_is_named(change, cause):
    (message,) = invalid_ldap({"url": URL, "user_template": TEMPLATE, **change})
    assert message.startswith("devpi_server_ldap: ")
    assert cause in message
    assert "secret" not in message
