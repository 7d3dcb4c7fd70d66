# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica serves, what it forwards to its primary, and what remains while the primary is stopped."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
from exported import metrics
from harness import JSON, LOST, Mirror, User, on_host, until
from plays import run_play, state, succeed

REPLICA_VARIABLES = "@vars/replica.yml"
replica = Mirror("replica", 3142)


@pytest.fixture(scope="module")
def alice() -> User:
    """A user who was created through the replica, with an index that only she can read."""
    password = on_host("docker exec devpi cat /data/root-password")
    root = replica.log_in("root", password)
    replica.call("PUT", "/alice", {"password": "secret-of-alice"}, root.auth)
    settings = {"bases": ["root/pypi"], "acl_read": ["alice"], "acl_upload": ["alice"]}
    replica.call("PUT", "/alice/private", settings, root.auth)
    return replica.log_in("alice", "secret-of-alice")


def read(project: str, **headers: str) -> int:
    """Download the first file of a project of the private index from the replica, and return the status."""
    page = f"/alice/private/+simple/{project}/"
    answer = replica.ask(page, "GET", None, 60, Accept=JSON, **headers)
    if answer.status != 200:
        return answer.status
    files = json.loads(answer.text)["files"]
    return replica.ask(urljoin(page, files[0]["url"]), "GET", None, 60, **headers).status


def read_as_ldap_user(name: str, password: str) -> int:
    """Request a page of the index that a group of the LDAP server can read from the replica, and return the status."""
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    return replica.ask("/acme/stable/+simple/alpha/", Accept=JSON, Authorization=f"Basic {credentials}").status


def primary_serial() -> str:
    script = "import urllib.request as r; print(r.build_opener().open('http://127.0.0.1:3141/+api').headers['X-Devpi-Serial'])"
    return on_host(f'python3 -c "{script}"').strip()


def test_changes_are_forwarded_and_replicated(alice: User) -> None:
    alice.upload("ours", "1.0")
    assert read("ours", X_Devpi_Auth=alice.auth) == 200
    assert read("ours") == 401


def test_the_replica_verifies_passwords_with_the_ldap_server() -> None:
    assert read_as_ldap_user("ada", "password-of-ada") == 200
    assert read_as_ldap_user("ada", "wrong") == 401
    # In no group.
    assert read_as_ldap_user("bob", "password-of-bob") == 403


def test_public_packages_are_cached_by_the_replica() -> None:
    (path,) = {
        file["path"] for file in replica.files("alpha").values() if file["filename"].endswith("1.0-py3-none-any.whl")
    }
    assert replica.ask(path).status == 200
    stored = "find /data/server/+files/root/pypi -name 'alpha-1.0-*.whl'"
    assert replica.run(stored)


def test_only_replicas_can_read_all_changes() -> None:
    # The tests' own address is not that of a container on this host.
    script = "import urllib.request as r; r.build_opener().open('http://127.0.0.1:3141/+changelog/0')"
    assert "403" in on_host(f'python3 -c "{script}" 2>&1 || true')


def test_the_doctor_describes_both_servers() -> None:
    report = doctor()
    assert "PROBLEM" not in report
    assert re.search(r"Primary with serial (\d+)", report), report
    assert re.search(rf"Replica 172\.[\d.]+: serial {primary_serial()}, last request 20", report), report
    report = doctor("--extra-vars", REPLICA_VARIABLES)
    assert "PROBLEM" not in report
    assert f": serial {primary_serial()} of {primary_serial()}" in report
    assert "Last in sync: 20" in report
    assert re.search(r"Clock: [01]\.\d s (behind|ahead of) that of the primary", report), report


def doctor(*options: str) -> str:
    output = succeed("devpi.mirror.doctor", *options).output
    assert replica.run("cat /data/secret").strip() not in output
    return output


# Responds as a primary whose clock is a minute behind.
SLOW_PRIMARY = """
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
import time

class Handler(BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        return formatdate(time.time() - 60, usegmt=True)

    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Devpi-Server-Version", "6.20.3")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

HTTPServer(("127.0.0.1", 3197), Handler).serve_forever()
"""


@pytest.fixture
def slow_primary() -> Iterator[str]:
    on_host(f"systemd-run --unit slow-primary python3 -c {shlex.quote(SLOW_PRIMARY)}")
    connect = "import socket; socket.create_connection(('127.0.0.1', 3197))"
    until(lambda: "up" in on_host(f'python3 -c "{connect}" 2>&1 && echo up || true'), "the server does not start")
    yield "http://127.0.0.1:3197"
    on_host("systemctl stop slow-primary")


def test_a_replica_whose_clock_is_wrong_is_not_changed(slow_primary: str) -> None:
    before = state()
    outcome = run_play("replica.yml", variables={"devpi_server_primary_url": slow_primary})
    text = " ".join(outcome.output.split())
    assert outcome.status != 0, text
    assert re.search(r"clock of this host is (59|60|61)\.\d s ahead of that of the primary", text), text
    assert "at most 1 s ahead and 37 s behind. Nothing was changed. Run an NTP client" in text
    assert state() == before


def test_the_replication_is_exported() -> None:
    until(
        lambda: metrics(3198).get("devpi_mirror_replica_in_sync") == 1, "the replica does not export that it is in sync"
    )
    values = metrics(3198)
    assert values["devpi_mirror_replica_primary_serial"] == values["devpi_mirror_serial"]
    assert values["devpi_mirror_replica_errors"] == 0
    assert values["devpi_mirror_replica_update_timestamp_seconds"] > 1e9
    assert metrics()["devpi_mirror_polling_replicas"] == 1


@pytest.fixture
def stopped_primary(alice: User) -> Iterator[None]:
    on_host("systemctl stop devpi")
    yield
    on_host("systemctl start devpi")
    until(primary_answers, "the primary does not start")


def primary_answers() -> bool:
    try:
        return bool(primary_serial())
    except AssertionError:
        return False


@pytest.mark.usefixtures("stopped_primary")
def test_packages_are_served_without_the_primary(alice: User) -> None:
    assert read("ours", X_Devpi_Auth=alice.auth) == 200
    assert read("ours") == 401
    assert replica.page("gamma").status == 200
    assert read_as_ldap_user("ada", "password-of-ada") == 200
    assert read_as_ldap_user("bob", "password-of-bob") == 403
    body = json.dumps({"user": "alice", "password": "secret-of-alice"}).encode()
    answer = replica.ask("/+login", "POST", body, Content_Type="application/json")
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert "its primary is unavailable" in answer.text
    report = " ".join(doctor("--extra-vars", REPLICA_VARIABLES).split())
    assert re.search(r"PROBLEM: Its primary http://\S+ is unreachable \(.*?\)\. Packages are served, but", report), (
        report
    )


def test_the_replica_continues_after_its_primary_has_returned(alice: User) -> None:
    until(lambda: uploads(alice), "the replica does not forward uploads")
    assert read("later", X_Devpi_Auth=alice.auth) == 200


def uploads(alice: User) -> bool:
    try:
        alice.upload("later", "1.0")
    except (AssertionError, *LOST):
        return False
    return True


@pytest.fixture(scope="module")
def backup() -> Iterator[str]:
    succeed("devpi.mirror.backup")
    yield on_host("ls /var/backups/devpi-mirror/devpi-*.tar").strip()
    on_host("rm -r /var/backups/devpi-mirror")


def test_a_replica_continues_from_a_backup_of_its_primary(alice: User, backup: str) -> None:
    alice.upload("last", "1.0")
    variables = {"devpi_server_restore_file": backup, "devpi_server_restore_force": True}
    succeed("devpi.mirror.restore", "--extra-vars", REPLICA_VARIABLES, variables=variables)
    assert "Activated the staged data" in replica.log()
    # It is not part of the backup.
    until(lambda: read("last", X_Devpi_Auth=alice.auth) == 200, "the replica does not continue")
    assert read("ours", X_Devpi_Auth=alice.auth) == 200
    assert "root-password" not in replica.run("ls /data")
    until(lambda: uploads(alice), "the replica does not forward uploads")


def test_a_replica_reports_that_its_primary_lost_changes(alice: User, backup: str) -> None:
    alice.upload("lost", "1.0")
    until(lambda: read("lost", X_Devpi_Auth=alice.auth) == 200, "the replica does not receive the upload")
    succeed("devpi.mirror.restore", variables={"devpi_server_restore_file": backup, "devpi_server_restore_force": True})
    until(
        lambda: "/data/server/.ahead-of-primary" in replica.run("ls /data/server/.a* || true"), "the replica continues"
    )
    assert read("lost", X_Devpi_Auth=alice.auth) == 200
    assert "PROBLEM: This replica has changes that its primary does not have" in doctor(
        "--extra-vars", REPLICA_VARIABLES
    )
