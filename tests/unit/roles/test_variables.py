# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a role outside of it: a play that includes the role publicly can evaluate all of ``vars``."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cases import HERE, ROLES, Results, copy_role, last_result, run_cases, run_playbook

WITH_VARIABLES = sorted(path.parent.name for path in ROLES.glob("*/defaults"))
URL = "https://{}@example.com/simple/"
OFFICE = "https://pypi.office.example.com/root/pypi/+simple/"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> dict[str, Results]:
    """Return the results of evaluate.yml for each role. A play of its own has no variables of the others."""
    folder = tmp_path_factory.mktemp("evaluated")
    plays = [
        {
            "ansible.builtin.import_playbook": str(HERE / "evaluate.yml"),
            "vars": {"case": role, "role": copy_role(role, folder / "roles")},
        }
        for role in WITH_VARIABLES
    ]
    playbook = folder / "play.json"
    playbook.write_text(json.dumps(plays))
    reports = run_playbook(playbook, WITH_VARIABLES, folder / "roles")
    return {
        role: {task["task"]["name"]: task["hosts"][role] for task in report["tasks"]}
        # The play of a role that fails is the last one.
        for role, report in zip(WITH_VARIABLES, reports, strict=False)
    }


@pytest.mark.parametrize("role", WITH_VARIABLES)
def test_all_variables_can_be_evaluated_outside_of_the_role(evaluated, role):
    each, at_once = evaluated[role]["Evaluate each variable"], evaluated[role]["Evaluate all variables at once"]
    assert [(result["item"], result["msg"]) for result in each["results"] if result.get("failed")] == []
    assert not at_once.get("failed"), at_once
    assert any(result["item"].startswith(f"__{role}_") for result in each["results"])


# The credentials of mirror indexes, and the text that the container gets.
CREDENTIALS: dict[str, tuple[dict[str, str], str | None]] = {
    "credentials": (
        {"root/two": "ada:s3cr%2Fet", "root/one": 'bob:qu"ote'},
        json.dumps({"root/one": URL.format('bob:qu"ote'), "root/two": URL.format("ada:s3cr%2Fet")}),
    ),
    "no-credentials": ({}, None),
}
# Variables of the upstream's fallback, the error, and the environment variables that the container gets.
FALLBACKS: dict[str, tuple[dict[str, Any], str, str | None, str | None]] = {
    "no-fallback": ({}, "$", None, None),
    "pypi": ({"upstream_url": OFFICE, "upstream_fallback": True}, "$", "1", None),
    "fallback-with-password": (
        {"upstream_url": OFFICE, "upstream_fallback": True, "upstream_fallback_url": URL.format("bob:s3cr%2Fet")},
        "$",
        "1",
        URL.format("bob:s3cr%2Fet"),
    ),
    "disabled-fallback": ({"upstream_url": OFFICE, "upstream_fallback_url": URL.format("bob:secret")}, "$", None, None),
    "fallback-of-pypi": (
        {"upstream_fallback": True},
        "devpi_server_upstream_fallback is true, but devpi_server_upstream_url is empty[.] Set .*false[.]$",
        "1",
        None,
    ),
    "invalid-url": (
        {"upstream_url": OFFICE, "upstream_fallback": True, "upstream_fallback_url": "pypi"},
        "devpi_server_upstream_fallback_url is 'pypi'",
        "1",
        "pypi",
    ),
}
GROUP_SEARCH = {"base": "ou=groups", "filter": "(member={userdn})"}
USER_SEARCH = {"base": "ou=people", "filter": "(uid={username})", "userdn": "cn=search", "password": "s3cret"}
USER_TEMPLATE = "uid={username}"


def root_password(stored: str, wanted: str, login: dict[str, Any], expected: str, is_known: bool) -> tuple[Any, Any]:
    """Return the variables of a case of root's current password, and the expected values."""
    variables = {
        "devpi_server_root_password": wanted,
        "__devpi_server_root_password_output": {"stdout": stored},
        "__devpi_server_root_login": login,
    }
    return variables, {"__devpi_server_api_password": expected, "__devpi_server_is_root_password_known": is_known}


def memory(mebibytes: int, expected: str) -> tuple[Any, Any]:
    """Return the variables of a host with this memory, and the expected limit."""
    return {"__devpi_server_host": {"memory": mebibytes * 2**20}}, {"devpi_server_memory": expected}


# Variables, and the expected values of others.
VALUES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # Names are those that devpi returns.
    "names-of-users-and-indexes": (
        {
            "devpi_server_users": [{"name": 2026}, {"name": "ada"}],
            "devpi_server_indexes": [
                {"name": "2026/dev", "acl_read": [2026]},
                {"name": "/ada/dev/", "acl_read": ["ada"]},
            ],
            "devpi_server_index": "ada/dev",
        },
        {
            "__devpi_server_user_names": ["2026", "ada"],
            "__devpi_server_index_names": ["2026/dev", "ada/dev"],
            "__devpi_server_retained_users": ["root", "2026", "ada", "2026", "ada"],
            "__devpi_server_retained_indexes": ["root/pypi", "2026/dev", "ada/dev"],
        },
    ),
    "root-changes-the-password": root_password("old", "new", {"password_changed": True}, "old", True),
    "root-changed-the-password": root_password("outdated", "new", {"password_changed": False}, "new", True),
    "root-has-the-password": root_password("new", "new", {"password_changed": False}, "new", True),
    "root-has-a-generated-password": root_password("generated", "", {"password_changed": False}, "generated", True),
    "root-has-another-password": root_password(
        "", "new", {"failed": False, "msg": "Could not log in to devpi as root"}, "new", False
    ),
    "root-cannot-connect": root_password("", "new", {"failed": False, "msg": "connection refused"}, "new", True),
    "root-has-no-known-password": root_password("", "", {"skipped": True}, "", False),
    "ldap-search": (
        {
            "devpi_server_ldap": {
                "url": "ldap://ldap.example.com",
                "start_tls": True,
                "ca_bundle": "/etc/ca.pem",
                "user_search": USER_SEARCH,
                "group_search": GROUP_SEARCH,
            }
        },
        {
            "__devpi_server_ldap_config": {
                "timeout": 5,
                "start_tls": True,
                "ca_file": "/run/mirror-ldap/ca.pem",
                "devpi-ldap": {
                    "url": "ldap://ldap.example.com",
                    "user_search": {**USER_SEARCH, "attribute_name": "dn"},
                    "group_search": {"attribute_name": "cn", **GROUP_SEARCH},
                },
            },
            "__devpi_server_ldap_arguments": ["--volume", "/etc/devpi-mirror-ldap:/run/mirror-ldap:ro,z"],
            "__devpi_server_invalid_values": [],
        },
    ),
    "ldap-template": (
        {"devpi_server_ldap": {"url": "ldaps://ldap.example.com", "user_template": USER_TEMPLATE, "timeout": 9}},
        {
            "__devpi_server_ldap_config": {
                "timeout": 9,
                "start_tls": False,
                "ca_file": None,
                "devpi-ldap": {"url": "ldaps://ldap.example.com", "user_template": USER_TEMPLATE},
            }
        },
    ),
    "no-ldap": ({}, {"__devpi_server_ldap_config": {}, "__devpi_server_ldap_arguments": []}),
    "invalid-ldap": (
        {"devpi_server_ldap": {"url": "ldaps://ldap.example.com"}},
        {"__devpi_server_invalid_values": ["devpi_server_ldap: set either user_template or user_search."]},
    ),
    "memory-unknown": memory(0, "768m"),
    "memory-3072": memory(3072, "768m"),
    "memory-3919": memory(3919, "1g"),
    "memory-15744": memory(15744, "4g"),
    # Replicas request a primary by the name of its host.
    "standalone": ({"devpi_server_role": "standalone"}, {"__devpi_server_allowed_hosts": ["devpi"]}),
    "replica.example": (
        {"devpi_server_role": "replica"},
        {"__devpi_server_allowed_hosts": ["devpi", "replica.example"]},
    ),
}


def indexes(credentials: dict[str, str]) -> list[dict[str, Any]]:
    """Return mirror indexes with these credentials, and others without."""
    return [
        *({"name": name, "type": "mirror", "mirror_url": URL.format(value)} for name, value in credentials.items()),
        {"name": "root/three", "type": "mirror", "mirror_url": "https://example.com/simple/"},
        {"name": "acme/dev"},
    ]


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Return the values of variables for each case."""
    cases: dict[str, dict[str, Any]] = {
        name: {
            "devpi_server_indexes": indexes(credentials),
            "names": [f"__devpi_server_{suffix}" for suffix in ("env", "has_secrets", "indexes", "index_names")],
        }
        for name, (credentials, _expected) in CREDENTIALS.items()
    }
    for name, (variables, *_expected) in FALLBACKS.items():
        cases[name] = {f"devpi_server_{key}": value for key, value in variables.items()}
        cases[name]["names"] = ["__devpi_server_invalid_values", "__devpi_server_env", "__devpi_server_has_secrets"]
    for name, (variables, expected) in VALUES.items():
        cases[name] = {**variables, "names": list(expected)}
    results = run_cases(tmp_path_factory.mktemp("values"), cases)
    return {name: last_result(result)["msg"] for name, result in results.items()}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_credentials_of_mirror_indexes(values, case):
    credentials, expected = CREDENTIALS[case]
    found = values[case]
    assert found["__devpi_server_env"].get("DEVPI_MIRROR_CREDENTIALS") == expected
    assert found["__devpi_server_has_secrets"] is (expected is not None)
    urls = [index["mirror_url"] for index in found["__devpi_server_indexes"] if "mirror_url" in index]
    assert len(urls) == len(credentials) + 1
    assert [url for url in urls if "@" in url] == []
    assert [index["name"] for index in found["__devpi_server_indexes"]] == found["__devpi_server_index_names"]


@pytest.mark.parametrize("case", FALLBACKS)
def test_the_fallback_of_the_upstream(values, case):
    _variables, invalid, enabled, url = FALLBACKS[case]
    found = values[case]
    assert re.match(invalid, " ".join(found["__devpi_server_invalid_values"]))
    assert found["__devpi_server_env"].get("DEVPI_MIRROR_UPSTREAM_FALLBACK") == enabled
    assert found["__devpi_server_env"].get("DEVPI_MIRROR_UPSTREAM_FALLBACK_URL") == url
    assert found["__devpi_server_has_secrets"] is ("@" in (url or ""))


@pytest.mark.parametrize("case", VALUES)
def test_values_of_variables(values, case):
    _variables, expected = VALUES[case]
    assert values[case] == expected
