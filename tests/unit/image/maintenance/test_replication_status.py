# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the replication in the mirror's status."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

ABOUT = {
    "role": "REPLICA",
    "serial": 7,
    "primary-serial": 9,
    "replica-started-at": 1.0,
    "update-from-primary-at": 2.0,
    "replica-in-sync-at": None,
    "replication-errors": {
        f"ada/f{number}": {"relpath": f"ada/f{number}", "url": "x", "message": "Not Found"} for number in range(101)
    },
}


@pytest.mark.parametrize(
    ("reported", "option", "role"),
    [
        ("REPLICA", "replica", "replica"),
        ("MASTER", "primary", "primary"),
        ("PRIMARY", "primary", "primary"),
        ("MASTER", "", "standalone"),
        ("PRIMARY", "auto", "standalone"),
    ],
)
def test_a_standalone_server_is_distinguished_from_a_primary(maintenance, reported, option, role):
    assert maintenance.replication.role({"role": reported}, {"DEVPISERVER_ROLE": option}) == role


def test_a_replica_compares_its_clock_with_its_primary(maintenance, upstream):
    before = time.time()
    found = maintenance.replication.replica({**ABOUT, "primary-url": upstream.url})
    assert (found["serial"], found["primary_serial"], found["updated_at"], found["in_sync_at"]) == (7, 9, 2.0, None)
    assert (found["error_count"], len(found["errors"])) == (101, 100)
    assert found["errors"][0] == {"file": "ada/f0", "error": "Not Found"}
    primary = found["primary"]
    assert (primary["url"], primary["error"]) == (upstream.url, "")
    assert before <= primary["sent"] <= primary["received"]
    assert abs(parsedate_to_datetime(primary["date"]).timestamp() - before) <= 30


def test_an_unreachable_primary(maintenance):
    found = maintenance.replication.primary("http://127.0.0.1:1")
    assert found["date"] == ""
    assert "refused" in found["error"]
    assert maintenance.replication.primary("http://ada:secret@127.0.0.1:1")["url"] == "http://***@127.0.0.1:1"


def test_the_replicas_of_a_primary(maintenance):
    polling = {
        name: {"remote-ip": address, "serial": 5, "last-request": 3.0, "in-request": True, "outside-url": None}
        for name, address in (("a", "192.0.2.7"), ("b", "192.0.2.2"))
    }
    assert maintenance.replication.replicas({"polling_replicas": polling}) == [
        {"uuid": "b", "address": "192.0.2.2", "serial": 5, "requested_at": 3.0},
        {"uuid": "a", "address": "192.0.2.7", "serial": 5, "requested_at": 3.0},
    ]
