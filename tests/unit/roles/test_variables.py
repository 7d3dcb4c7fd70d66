# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a role outside of it: a play that includes the role publicly can evaluate all of ``vars``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.devpi import mirror

HERE = Path(__file__).parent
ROLES = HERE.parents[2] / "roles"
# The folder that contains ansible_collections, for the filters.
COLLECTIONS = Path(mirror.__path__[0]).parents[2]
WITH_VARIABLES = sorted(path.parent.name for path in ROLES.glob("*/defaults"))


def run(playbook, role, tmp_path, **variables):
    """Run a playbook that includes a role with the variables of ``role`` and without tasks, and return the process."""
    # With another name, as in a playbook in a collection, the name of a role of that collection would mean the whole role.
    name = f"variables_of_{role}"
    for folder in ("defaults", "vars"):
        shutil.copytree(ROLES / role / folder, tmp_path / name / folder)
    values = {"role": name, "ansible_python_interpreter": sys.executable, **variables}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(HERE / playbook)]
    command += ["--extra-vars", json.dumps(values)]
    env = {**os.environ, "ANSIBLE_ROLES_PATH": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("role", WITH_VARIABLES)
def test_all_variables_can_be_evaluated_outside_of_the_role(role, tmp_path):
    done = run("evaluate.yml", role, tmp_path)
    output = done.stdout + done.stderr
    assert re.findall(r"failed: .*item=(\w+)", output) == [], output
    assert done.returncode == 0, output
    assert f"__{role}_" in output


URL = "https://{}@example.com/simple/"


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        (
            {"root/two": "ada:s3cr%2Fet", "root/one": 'bob:qu"ote'},
            json.dumps({"root/one": URL.format('bob:qu"ote'), "root/two": URL.format("ada:s3cr%2Fet")}),
        ),
        ({}, None),
    ],
)
def test_credentials_of_mirror_indexes(tmp_path, credentials, expected):
    indexes = [{"name": name, "type": "mirror", "mirror_url": URL.format(value)} for name, value in credentials.items()]
    indexes += [
        {"name": "root/three", "type": "mirror", "mirror_url": "https://example.com/simple/"},
        {"name": "acme/dev"},
    ]
    done = run("credentials.yml", "devpi_server", tmp_path, devpi_server_indexes=indexes, expected=expected)
    assert done.returncode == 0, done.stdout + done.stderr


OFFICE = "https://pypi.office.example.com/root/pypi/+simple/"


@pytest.mark.parametrize(
    ("variables", "invalid", "enabled", "url"),
    [
        ({}, "$", None, None),
        ({"upstream_url": OFFICE, "upstream_fallback": True}, "$", "1", None),
        (
            {"upstream_url": OFFICE, "upstream_fallback": True, "upstream_fallback_url": URL.format("bob:s3cr%2Fet")},
            "$",
            "1",
            URL.format("bob:s3cr%2Fet"),
        ),
        ({"upstream_url": OFFICE, "upstream_fallback_url": URL.format("bob:secret")}, "$", None, None),
        (
            {"upstream_fallback": True},
            "devpi_server_upstream_fallback is true, but devpi_server_upstream_url is empty[.] Set .*false[.]$",
            "1",
            None,
        ),
        (
            {"upstream_url": OFFICE, "upstream_fallback": True, "upstream_fallback_url": "pypi"},
            "devpi_server_upstream_fallback_url is 'pypi'",
            "1",
            "pypi",
        ),
    ],
)
def test_the_fallback_of_the_upstream(tmp_path, variables, invalid, enabled, url):
    values = {f"devpi_server_{name}": value for name, value in variables.items()}
    expected = {"invalid": invalid, "enabled": enabled, "url": url}
    done = run("fallback.yml", "devpi_server", tmp_path, **values, **expected)
    assert done.returncode == 0, done.stdout + done.stderr


def check_values(tmp_path, expected, **variables):
    """Check the values of variables of the role devpi_server."""
    done = run("values.yml", "devpi_server", tmp_path, expected=expected, **variables)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_of_users_and_indexes_are_those_that_devpi_returns(tmp_path):
    expected = {
        "__devpi_server_user_names": ["2026", "ada"],
        "__devpi_server_index_names": ["2026/dev", "ada/dev"],
        "__devpi_server_retained_users": ["root", "2026", "ada", "2026", "ada"],
        "__devpi_server_retained_indexes": ["root/pypi", "2026/dev", "ada/dev"],
    }
    check_values(
        tmp_path,
        expected,
        devpi_server_users=[{"name": 2026}, {"name": "ada"}],
        devpi_server_indexes=[{"name": "2026/dev", "acl_read": [2026]}, {"name": "/ada/dev/", "acl_read": ["ada"]}],
        devpi_server_index="ada/dev",
    )


@pytest.mark.parametrize(
    ("stored", "wanted", "login", "expected", "is_known"),
    [
        ("old", "new", {"password_changed": True}, "old", True),
        ("outdated", "new", {"password_changed": False}, "new", True),
        ("new", "new", {"password_changed": False}, "new", True),
        ("generated", "", {"password_changed": False}, "generated", True),
        ("", "new", {"failed": False, "msg": "Could not log in to devpi as root"}, "new", False),
        ("", "new", {"failed": False, "msg": "connection refused"}, "new", True),
        ("", "", {"skipped": True}, "", False),
    ],
)
def test_the_current_password_of_root(tmp_path, stored, wanted, login, expected, is_known):
    check_values(
        tmp_path,
        {"__devpi_server_api_password": expected, "__devpi_server_is_root_password_known": is_known},
        devpi_server_root_password=wanted,
        __devpi_server_root_password_output={"stdout": stored},
        __devpi_server_root_login=login,
    )


def test_the_options_of_an_ldap_server(tmp_path):
    groups = {"base": "ou=groups", "filter": "(member={userdn})"}
    users = {"base": "ou=people", "filter": "(uid={username})", "userdn": "cn=search", "password": "s3cret"}
    url = "ldap://ldap.example.com"
    search = {
        "url": url,
        "user_search": {**users, "attribute_name": "dn"},
        "group_search": {"attribute_name": "cn", **groups},
    }
    folder = "/etc/devpi-mirror-ldap:/run/mirror-ldap:ro,z"
    check_values(
        tmp_path,
        {
            "__devpi_server_ldap_config": {
                "timeout": 5,
                "start_tls": True,
                "ca_file": "/run/mirror-ldap/ca.pem",
                "devpi-ldap": search,
            },
            "__devpi_server_ldap_arguments": ["--volume", folder],
            "__devpi_server_invalid_values": [],
        },
        devpi_server_ldap={
            "url": url,
            "start_tls": True,
            "ca_bundle": "/etc/ca.pem",
            "user_search": users,
            "group_search": groups,
        },
    )
    template = "uid={username}"
    check_values(
        tmp_path / "template",
        {
            "__devpi_server_ldap_config": {
                "timeout": 9,
                "start_tls": False,
                "ca_file": None,
                "devpi-ldap": {"url": "ldaps://ldap.example.com", "user_template": template},
            }
        },
        devpi_server_ldap={"url": "ldaps://ldap.example.com", "user_template": template, "timeout": 9},
    )


def test_no_ldap_server(tmp_path):
    check_values(tmp_path, {"__devpi_server_ldap_config": {}, "__devpi_server_ldap_arguments": []})


def test_an_invalid_option_of_an_ldap_server(tmp_path):
    message = "devpi_server_ldap: set either user_template or user_search."
    check_values(
        tmp_path,
        {"__devpi_server_invalid_values": [message]},
        devpi_server_ldap={"url": "ldaps://ldap.example.com"},
    )


@pytest.mark.parametrize(("mebibytes", "expected"), [(0, "768m"), (3072, "768m"), (3919, "1g"), (15744, "4g")])
def test_default_of_the_memory_limit(tmp_path, mebibytes, expected):
    variables = {"__devpi_server_host": {"memory": mebibytes * 2**20}, "expected": {"devpi_server_memory": expected}}
    done = run("values.yml", "devpi_server", tmp_path, **variables)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("role", "names"), [("standalone", ["devpi"]), ("replica", ["devpi", "localhost.example"])])
def test_the_name_by_which_replicas_request_a_primary_is_allowed(tmp_path, role, names):
    variables = {"devpi_server_role": role, "expected": {"__devpi_server_allowed_hosts": names}}
    done = run("values.yml", "devpi_server", tmp_path, **variables, inventory_hostname="localhost.example")
    assert done.returncode == 0, done.stdout + done.stderr
