# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages about invalid variables. A play has a host for each message, all of which are the same bare test host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import CONNECTION, HOST, on_host, until
from plays import run_as_json

CHECK_CLIENTS = str(Path(__file__).parent / "check_clients.yml")

# Users who can't be configured, a port in use, and little disk space for Docker.
PREPARE = """set -e
useradd --no-create-home --shell /bin/bash homeless
useradd --create-home --shell /bin/bash locked
chown -R root:root /home/locked
chmod 0755 /home/locked
systemd-run --quiet --unit port-in-use python3 -m http.server --bind 127.0.0.1 3999
mkdir -p /srv/small
mount -t tmpfs -o size=50m small /srv/small
mount --bind /srv/small /var/lib/docker
"""
RESTORE = """
systemctl stop port-in-use
umount /var/lib/docker /srv/small
userdel homeless
userdel --remove --force locked
rm -rf /home/locked /srv/small
"""


class Case(NamedTuple):
    """Variables, and what the one message about them has to contain."""

    variables: dict[str, Any]
    expected: list[str]


CASES = {
    "invalid-values": Case(
        {
            "devpi_mirror_index": "pypi",
            "devpi_mirror_prot": 3142,
            "devpi_server_backup_every": "daily",
            "devpi_server_backup_folder": "~/backups",
            "devpi_server_base_mirror": "http://ada:secret@example.com/debian",
            "devpi_server_base_tools": "mmdebstrap",
            "devpi_server_freshness": 0,
            "devpi_server_image_refresh": "2026/11",
            "devpi_server_ldap": {"url": "ldap://ldap.example.com", "user_template": "uid={username}"},
            "devpi_server_max_stale": -1,
            "devpi_server_memory": "lots",
            "devpi_server_network": "host",
            "devpi_server_prewarm": "numpy",
            "devpi_server_tls_certificate": "fullchain.pem",
            "devpi_server_tls_key": "/etc/hostname",
            "devpi_server_upstream_fallback": True,
            "devpi_server_upstream_fallback_url": "pypi",
            "devpi_server_upstream_url": "https://ada:a/secret@example.com/simple/",
        },
        [
            "devpi_server_index is 'pypi': set it to the name of an index with its user, such as root/pypi",
            "devpi_mirror_prot is not a variable of devpi.mirror: set devpi_mirror_port",
            "devpi_server_backup_every is 'daily': set it to a duration, such as 1d",
            "devpi_server_backup_folder is '~/backups': set it to the absolute path of a folder",
            "devpi_server_base_mirror is 'http://***@example.com/debian': set it to the URL of a mirror of Debian's packages",
            "without credentials, which would become part of the image",
            "devpi_server_base_tools is not a list: set it to",
            "[mmdebstrap]",
            "devpi_server_freshness is '0': set it to a number of seconds, such as 300",
            "devpi_server_image_refresh is '2026/11': set it to",
            "such as 2026-11",
            "devpi_server_ldap: url is ldap://ldap.example.com",
            "set start_tls to true",
            "devpi_server_max_stale is '-1': set it to a number of seconds, such as 3600",
            "devpi_server_memory is 'lots': set it to a size, such as 768m",
            "devpi_server_network is 'host': set it to",
            "devpi_server_prewarm is not a list: set it to a list of requirements",
            "devpi_server_tls_certificate is 'fullchain.pem': set it to the absolute path of a PEM file",
            "devpi_server_upstream_fallback_url is 'pypi': set it to the URL of an index's simple page, such as https://packages.example",
            "devpi_server_upstream_url is 'https://***@example.com/simple/': set it to",
        ],
    ),
    "unknown-init": Case(
        {"devpi_server_init": "bsd"},
        ["devpi_server_init is 'bsd'", "systemd or upstart or openrc or sysvinit or runit or launchd or none"],
    ),
    "other-init": Case(
        {"devpi_server_init": "runit"}, ["devpi_server_init is 'runit'", "this host runs systemd", "systemd or none"]
    ),
    "port-in-use": Case(
        {"devpi_mirror_port": 3999}, ["Port 3999 of 127.0.0.1 is in use by python3", "set devpi_mirror_port"]
    ),
    "port-too-large": Case({"devpi_mirror_port": 99999}, ["devpi_mirror_port is '99999'"]),
    "tls-without-key": Case(
        {"devpi_server_tls_certificate": "/etc/hostname"}, ["devpi_server_tls_key is ''", "Set both, or neither"]
    ),
    "tls-missing-file": Case(
        {"devpi_server_tls_certificate": "/etc/hostname", "devpi_server_tls_key": "/nowhere/key.pem"},
        ["devpi_server_tls_key is /nowhere/key.pem", "which this host does not have"],
    ),
    "tls-port-of-http": Case(
        {
            "devpi_server_tls_certificate": "/etc/hostname",
            "devpi_server_tls_key": "/etc/hostname",
            "devpi_server_tls_port": 3141,
        },
        ["devpi_server_tls_port is '3141'", "other than 3141"],
    ),
    "tls-port-in-use": Case(
        {
            "devpi_server_tls_certificate": "/etc/hostname",
            "devpi_server_tls_key": "/etc/hostname",
            "devpi_server_tls_port": 3999,
        },
        ["Port 3999 of 127.0.0.1 is in use by python3", "set devpi_server_tls_port"],
    ),
    "metrics-port-of-http": Case(
        {"devpi_server_metrics_port": 3141}, ["devpi_server_metrics_port and devpi_mirror_port are both 3141"]
    ),
    "metrics-port-in-use": Case(
        {"devpi_server_metrics_port": 3999},
        ["Port 3999 of 127.0.0.1 is in use by python3", "set devpi_server_metrics_port"],
    ),
    "ldap-unknown-option": Case(
        {"devpi_server_ldap": {"url": "ldaps://ldap.example.com", "tls": False}}, ["devpi_server_ldap", "tls"]
    ),
    "ldap-missing-bundle": Case(
        {
            "devpi_server_ldap": {
                "url": "ldaps://ldap.example.com",
                "user_template": "uid={username}",
                "ca_bundle": "/nowhere/ca.pem",
            }
        },
        ["ca_bundle of devpi_server_ldap is '/nowhere/ca.pem'", "which this host does not have"],
    ),
    "base-tools-of-another-kind": Case(
        {"devpi_server_base_tools": ["multistrap"], "devpi_server_image_source": "build"},
        ["devpi_server_base_tools begins with 'multistrap'", "mmdebstrap or debootstrap"],
    ),
    "upstream-no-url": Case(
        {"devpi_server_upstream_url": "pypi"},
        ["devpi_server_upstream_url is 'pypi'", "https://packages.example.com/simple/"],
    ),
    "fallback-without-upstream": Case(
        {"devpi_server_upstream_fallback": True},
        ["devpi_server_upstream_fallback is true", "Set devpi_server_upstream_url"],
    ),
    "requirements-missing": Case(
        {"devpi_server_prewarm": ["-r /nowhere/requirements.txt"]},
        ["devpi_server_prewarm names /nowhere/requirements.txt"],
    ),
    "invalid-indexes": Case(
        {"devpi_server_indexes": [{"name": "root/pypi", "min_release_age": "7"}, {"name": "ghost/dev"}]},
        [
            "devpi_server_indexes, root/pypi: min_release_age is '7'",
            "as in 7d",
            "devpi_server_indexes, ghost/dev: The user ghost",
            "Add it to devpi_server_users",
        ],
    ),
    "pull-without-image": Case(
        {"devpi_server_image_source": "pull"}, ["Nothing was changed", "Set devpi_server_image to"]
    ),
    "archive-missing": Case(
        {"devpi_server_image_archive": "/nowhere/devpi.tar"},
        ["Nothing was changed", "Set devpi_server_image_archive to"],
    ),
    "archive-without-image": Case(
        {"devpi_server_image_archive": "/etc/hostname"}, ["/etc/hostname contains no image, and not devpi-mirror:"]
    ),
    "backup-folder-with-colon": Case(
        {"devpi_server_backup_every": "1d", "devpi_server_backup_folder": "/srv/a:b"},
        ["devpi_server_backup_folder is '/srv/a:b', and Docker can't mount", "to another path"],
    ),
    "engine-user-missing": Case({"docker_engine_users": ["ghost"]}, ["docker_engine_users names ghost"]),
    "engine-users-no-list": Case(
        {"docker_engine_users": "ada"}, ["docker_engine_users is not a list", "a list of user names"]
    ),
    "engine-missing": Case({"docker_engine_source": "existing"}, ["docker_engine_source"]),
    "user-missing": Case({"pip_client_users": ["ghost"]}, ["pip_client_users", "user 'ghost' does not exist"]),
    # All other cases require less free space.
    "disk-full": Case({"devpi_server_disk_free": 1500}, ["MB are free at /var/lib/docker", "devpi_server_disk_free"]),
}
# More cases that the role pip_client detects. It runs alone for them, which takes less time.
CLIENT_CASES = {
    "index-no-url": Case({"pip_client_index_url": "localhost"}, ["pip_client_index_url is 'localhost'"]),
    "invalid-client-values": Case(
        {"pip_client_user": ["ada"], "pip_client_users": "ada"},
        [
            "pip_client_user is not a variable of devpi.mirror: set pip_client_users",
            "pip_client_users is not a list: set it to a list of user names",
        ],
    ),
    "home-missing": Case({"pip_client_users": ["homeless"]}, ["pip_client_users", "/home/homeless"]),
    "home-not-writable": Case(
        {"pip_client_users": ["locked"]}, ["pip_client_users", "/home/locked is not writable by its user"]
    ),
    "settings-without-section": Case(
        {"pip_client_settings": {"timeout": 30}}, ["pip_client_settings", "{global: {timeout: 30}}"]
    ),
    "user-settings-without-section": Case(
        {"pip_client_user_settings": {"ada": {"timeout": 30}}},
        ["pip_client_user_settings", "{ada: {global: {timeout: 30}}}"],
    ),
    "unknown-tool": Case({"pip_client_tools": ["npm"]}, ["pip_client_tools", "pipx"]),
    "fallback-beside-links": Case(
        {
            "pip_client_fallback": "https://example.com/s/",
            "pip_client_settings": {"global": {"find_links": "https://a.example.com"}},
        },
        ["pip_client_fallback", "an attacker can publish a public package with the name of a private one"],
    ),
    "fallback-beside-links-as-an-option": Case(
        {
            "pip_client_fallback": "https://example.com/s/",
            "pip_client_user_settings": {"ada": {"global": {"--extra-index-url": "https://a.example.com"}}},
        },
        ["pip_client_fallback is not the URL"],
    ),
    "fallback-beside-private-index": Case(
        {"pip_client_fallback": "https://example.com/simple/", "devpi_mirror_index": "team/dev"},
        ["pip_client_fallback", "Use the index root/pypi"],
    ),
    "password-for-all-users": Case(
        {"pip_client_index_url": "https://ada:secret@example.com/simple/", "pip_client_scope": "global"},
        ["Set pip_client_scope to user"],
    ),
}
ALL_CASES = {**CASES, **CLIENT_CASES}


class Outcome(NamedTuple):
    message: str
    changed: int


@contextmanager
def prepared_host() -> Iterator[None]:
    """Provide what the cases need on the bare host, and remove it afterwards."""
    on_host(PREPARE)
    try:
        until(lambda: on_host("ss --listening --no-header '( sport = :3999 )'"), "port 3999 is not in use")
        yield
    finally:
        on_host(RESTORE)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Run the plays, and return how they ended for each case."""
    host = {**CONNECTION, "ansible_host": HOST, "devpi_server_disk_free": 1}
    groups = {
        group: {"hosts": {name: {**host, **case.variables} for name, case in cases.items()}}
        for group, cases in (("cases", CASES), ("client_cases", CLIENT_CASES))
    }
    inventory = tmp_path_factory.mktemp("inventory") / "cases.json"
    inventory.write_text(json.dumps(groups))
    options = ["--inventory", str(inventory)]
    with prepared_host():
        reports = [
            run_as_json("devpi.mirror.site", *options, variables={"devpi_mirror_hosts": "cases"}),
            run_as_json(CHECK_CLIENTS, *options),
        ]
    outcomes = {}
    for report in reports:
        messages: dict[str, str] = {}
        for task in report["plays"][0]["tasks"]:
            for name, result in task["hosts"].items():
                if result.get("failed"):
                    messages[name] = re.sub(r"\s+", " ", str(result["msg"]))
        outcomes.update(
            {name: Outcome(messages.get(name, ""), stats["changed"]) for name, stats in report["stats"].items()}
        )
    return outcomes


@pytest.mark.parametrize("name", ALL_CASES)
def test_message(outcomes: dict[str, Outcome], name: str) -> None:
    """The message names the variable and a correct value, and nothing was changed."""
    outcome = outcomes[name]
    assert [text for text in ALL_CASES[name].expected if text not in outcome.message] == [], outcome.message
    assert outcome.changed == 0
