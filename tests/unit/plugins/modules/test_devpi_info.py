# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import json
import threading

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi, _docker
from ansible_collections.devpi.mirror.plugins.modules import devpi_info

READY = _devpi.ProbeResult(_devpi.READY, "index root/pypi exists", version="6.20.3", uuid="c0ffee", serial=4)
REFUSED = _devpi.ProbeResult(_devpi.REFUSED, "connection refused")
CONTAINER = [
    {
        "State": {"Running": True, "StartedAt": "2026-11-02T08:00:12.123456789Z"},
        "HostConfig": {"RestartPolicy": {"Name": "no"}},
        "Config": {"Image": "devpi-mirror:1", "Labels": {"devpi.mirror.image": "devpi-server"}},
    }
]
INSPECTION = {
    "requests": {"hit": 6, "stale": 1, "miss": 1},
    "scrub": {"at": 0, "files": 3, "damaged": 0, "lost": [], "error": ""},
    "problems": [],
    "disk": {"free": 5, "total": 9},
    "limits": {"size": 0, "age": 0, "database": 0},
    "database_bytes": 77,
    "removed_projects": [{"index": "root/pypi", "project": "evil", "at": 1780000000.0}, {"project": "malformed"}],
    "hidden": {"count": 0, "files": []},
    "backup": None,
    "cache": {"files": 3, "bytes": 99},
    "devpi": {"role": "standalone", "uuid": "c0ffee", "serial": 4, "versions": {"devpi-server": "6.20.3"}},
    "upstream": {"url": "https://example.com/simple/", "reachable": True, "error": ""},
    "mirrors": [{"index": "root/other", "url": "https://example.com/other/", "reachable": True, "error": ""}],
}


@pytest.fixture
def host(monkeypatch):
    """The state of the host: the output of the inspection, the container, and the result of a probe."""
    state = {
        "inspection": copy.deepcopy(INSPECTION),
        "container": copy.deepcopy(CONTAINER),
        "probe": READY,
        "engine": True,
    }
    state["created"] = "2026-11-01T07:30:00.123456789Z"

    def execute(args):
        if args[1] == "info":
            info = {"ServerVersion": "29.0"} if state["engine"] else {"ServerErrors": ["no socket"]}
            return 0, json.dumps(info), ""
        if args[1] == "image":
            return (0, state["created"] + "\n", "") if state["created"] else (1, "", "No such image")
        output = state["inspection"] if args[1] == "exec" else state["container"]
        if isinstance(output, str):
            return 0, output, ""
        return (1, "", "Traceback:\nKeyError: 'result'\n") if output is None else (0, json.dumps(output), "")

    monkeypatch.setattr(_docker, "execute", execute)
    monkeypatch.setattr(devpi_info.AnsibleModule, "get_bin_path", lambda self, name, opt_dirs: "/usr/bin/" + name)
    monkeypatch.setattr(_devpi, "probe", lambda client, level, index, project, listener_uid: state["probe"])
    return state


def test_healthy_mirror(run_module, host):
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["reasons"]) == ("ok", [])
    assert (result["hit_rate"], result["up_since"]) == (0.875, "2026-11-02T08:00:12Z")
    assert result["last_scrub"]["at"] == "1970-01-01T00:00:00Z"
    assert result["last_backup"] is None
    assert result["versions"] == {"devpi-server": "6.20.3"}
    assert result["removed_projects"] == [{"index": "root/pypi", "project": "evil", "at": "2026-05-28T20:26:40Z"}]


def test_hidden_files(run_module, host):
    file = {"index": "root/pypi", "project": "x", "filename": "x-1.tar.gz", "rule": "block: x", "available_at": None}
    host["inspection"]["hidden"] = {"count": 1001, "files": [{**file, "new": 1}, {"index": "root/pypi"}]}
    assert run_module(devpi_info, {}).result["hidden"] == {"count": 1001, "files": [file]}


def test_upstreams_of_other_mirror_indexes(run_module, host):
    (other,) = host["inspection"]["mirrors"]
    other.update(reachable=False, error="Connection refused")
    host["inspection"]["mirrors"].append({"index": "root/new"})
    result = run_module(devpi_info, {}).result
    assert result["mirrors"] == [other]
    (reason,) = result["reasons"]
    assert reason.startswith(
        "The upstream https://example.com/other/ of root/other is unreachable (Connection refused)."
    )


@pytest.mark.parametrize(
    ("upstream", "second", "in_use", "state"),
    [
        (True, True, False, "ok"),
        (False, True, True, "ok"),
        (False, False, False, "degraded"),
        (True, False, False, "ok"),
    ],
)
def test_the_fallback_of_the_upstream(run_module, host, upstream, second, in_use, state):
    """While it is in use, there is no problem."""
    host["inspection"]["upstream"].update(reachable=upstream, error="Connection refused")
    fallback = {"url": "https://example.com/fallback/", "reachable": second, "error": "timed out"}
    host["inspection"]["fallback"] = fallback
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["fallback"]) == (state, {**fallback, "in_use": in_use})
    if state == "degraded":
        (reason,) = result["reasons"]
        assert "(Connection refused), and so is its fallback https://example.com/fallback/ (timed out)." in reason


def test_no_fallback(run_module, host):
    assert run_module(devpi_info, {}).result["fallback"] is None
    host["inspection"]["fallback"] = None
    assert run_module(devpi_info, {}).result["fallback"] is None


NOW = 1_790_337_600.0
REPLICA = {
    "at": NOW,
    "serial": 7,
    "primary_serial": 7,
    "started_at": NOW - 9000,
    "updated_at": NOW - 20,
    "in_sync_at": NOW - 20,
    "error_count": 0,
    "errors": [],
    "primary": {
        "url": "https://pypi.example.com",
        "error": "",
        "date": "Fri, 25 Sep 2026 12:00:00 GMT",
        "sent": NOW,
        "received": NOW + 1,
    },
}


def test_a_replica_in_sync(run_module, host):
    host["inspection"]["replica"] = REPLICA
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["reasons"]) == ("ok", [])
    assert result["replication"] == {
        "role": "replica",
        "serial": 7,
        "primary_url": "https://pypi.example.com",
        "primary_error": "",
        "primary_serial": 7,
        "lag": 0,
        "last_in_sync": "2026-09-25T11:59:40Z",
        "last_update": "2026-09-25T11:59:40Z",
        "errors": [],
        "error_count": 0,
        "clock_offset": 0.0,
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"updated_at": NOW - 60}, ""),
        ({"updated_at": NOW - 61}, "from its primary https://pypi.example.com for 61 s"),
        ({"updated_at": None, "started_at": NOW - 50}, ""),
        ({"updated_at": None, "started_at": NOW - 70}, "for 70 s"),
        ({"updated_at": None, "started_at": None}, ""),
        ({"primary_serial": 9, "in_sync_at": NOW - 300}, ""),
        ({"primary_serial": 9, "in_sync_at": NOW - 330}, "lacks 2 changes of its primary, and has not been in sync for 6 m"),
        ({"primary_serial": 9, "in_sync_at": None}, "for 150 minutes"),
        ({"primary_serial": None, "in_sync_at": None}, ""),
        (
            {"error_count": 2, "errors": [{"file": "ada/f", "error": "Not Found"}, {"file": 1}]},
            "2 files could not be replicated, such as ada/f (Not Found).",
        ),
        ({"error_count": 2, "primary_serial": 9}, ""),
    ],
)  # fmt: skip
def test_problems_of_a_replica(run_module, host, changes, problem):
    host["inspection"]["replica"] = {**REPLICA, **changes}
    result = run_module(devpi_info, {}).result
    assert (result["state"], len(result["reasons"])) == (("degraded", 1) if problem else ("ok", 0))
    assert problem in "".join(result["reasons"])


@pytest.mark.parametrize("silent", [20, 900])
@pytest.mark.parametrize(
    ("primary", "problem", "offset"),
    [
        (
            {"error": "Connection refused", "date": ""},
            "is unreachable (Connection refused). Packages are served, but",
            None,
        ),
        (
            {"sent": NOW + 60, "received": NOW + 60},
            "the clock of this host is 59.5 s ahead of that of the primary",
            59.5,
        ),
    ],
)
def test_a_known_reason_is_the_only_problem(run_module, host, primary, problem, offset, silent):
    changes = {"updated_at": NOW - silent, "primary": {**REPLICA["primary"], **primary}}
    host["inspection"]["replica"] = {**REPLICA, **changes}
    result = run_module(devpi_info, {}).result
    (reason,) = result["reasons"]
    assert problem in reason
    assert result["replication"]["clock_offset"] == offset


def test_the_replicas_of_a_primary(run_module, host):
    replica = {"uuid": "a", "address": "192.0.2.7", "serial": 4, "requested_at": NOW}
    host["inspection"]["replicas"] = [replica, {"uuid": "b"}]
    result = run_module(devpi_info, {}).result
    listed = {"uuid": "a", "address": "192.0.2.7", "serial": 4, "last_request": "2026-09-25T12:00:00Z"}
    assert result["replication"] == {"role": "primary", "serial": 4, "replicas": [listed]}


def test_a_standalone_server_has_no_replication(run_module, host):
    result = run_module(devpi_info, {}).result
    assert (result["replication"], result["certificate_expires"]) == (None, None)


def test_the_end_of_the_certificate(run_module, host):
    host["inspection"]["certificate_expires"] = NOW
    assert run_module(devpi_info, {}).result["certificate_expires"] == "2026-09-25T12:00:00Z"


@pytest.mark.parametrize("change", [{"hidden": None}, {}])
def test_image_without_package_policies(run_module, host, change):
    del host["inspection"]["hidden"]
    host["inspection"].update(change)
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["hidden"]) == ("ok", None)


@pytest.mark.parametrize(
    ("created", "reported", "days"),
    [
        ("2026-11-01T07:30:00.123456789Z", "2026-11-01T07:30:00Z", 12),
        ("2026-11-13T07:30:01Z", "2026-11-13T07:30:01Z", 0),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 739932),
        ("", None, None),
    ],
)
def test_age_of_the_image(run_module, host, monkeypatch, created, reported, days):
    host["created"] = created
    monkeypatch.setattr(devpi_info.time, "time", lambda: 1794555001.0)  # 2026-11-13T07:30:01Z
    result = run_module(devpi_info, {}).result
    assert (result["image_created"], result["image_age_days"]) == (reported, days)


def test_problems_of_the_mirror_and_its_upstream(run_module, host):
    host["inspection"]["problems"] = ["The disk is full."]
    host["inspection"]["upstream"].update(reachable=False, error="Connection refused")
    result = run_module(devpi_info, {}).result
    assert result["state"] == "degraded"
    assert result["reasons"][0] == "The disk is full."
    assert "Connection refused" in result["reasons"][1]


def test_nginx_serves_while_devpi_does_not_respond(run_module, host):
    host["inspection"].update(devpi=None, cache=None, upstream=None, problems=["devpi-server does not respond"])
    host["inspection"]["requests"] = {"hit": 0, "stale": 0, "miss": 0}
    host["probe"] = _devpi.ProbeResult(_devpi.SERVER_ERROR, "it responds with status 503")
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["reasons"]) == ("degraded", ["devpi-server does not respond"])
    assert (result["serial"], result["hit_rate"]) == (None, None)


def test_port_is_not_published(run_module, host):
    host["probe"] = REFUSED
    result = run_module(devpi_info, {}).result
    assert result["state"] == "degraded"
    assert "connection refused" in result["reasons"][0]
    # The container works, so the port can be another one than in the play that deployed it.
    assert "devpi_mirror_port" in result["reasons"][0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": False}, "The Docker daemon does not respond (no socket)"),
        ({"container": None}, "The container devpi does not exist"),
        ({"container": [{**CONTAINER[0], "State": {"Running": False}}]}, "is not running"),
    ],
)
def test_mirror_is_down(run_module, host, change, reason):
    host.update(change, probe=REFUSED)
    result = run_module(devpi_info, {}).result
    assert result["state"] == "down"
    assert reason in result["reasons"][0]
    assert result["up_since"] is None


def test_listener_of_another_user_while_the_mirror_is_down(run_module, host):
    host.update(
        container=None, probe=_devpi.ProbeResult(_devpi.OTHER_SERVICE, "the user with UID 1000 listens on that port")
    )
    result = run_module(devpi_info, {}).result
    assert result["state"] == "down"
    assert "UID 1000" in result["reasons"][1]


@pytest.mark.parametrize(
    ("inspection", "error"),
    [
        (None, "KeyError: 'result'"),
        ("Warning: {", "is not JSON"),
        ("null", "is not a JSON object"),
        ({**INSPECTION, "disk": 5, "devpi": []}, "lacks devpi, disk"),
        ({**INSPECTION, "hidden": {"count": "x"}}, "lacks hidden"),
        ({**INSPECTION, "replica": {**REPLICA, "updated_at": "x"}, "replicas": 1}, "lacks replica, replicas"),
        ({**INSPECTION, "backup": {}, "requests": {"hit": 1}, "scrub": {"at": "x"}}, "lacks backup, requests, scrub"),
        ({**INSPECTION, "backup": {"at": 1e300}, "scrub": {"at": float("nan")}}, "lacks backup, scrub"),
        ("[" * 100_000, "is not JSON"),
        (
            {"problems": []},
            "lacks backup, cache, database_bytes, devpi, disk, limits, removed_projects, requests, scrub, upstream",
        ),
    ],
)
def test_failed_inspection(run_module, host, inspection, error):
    host["inspection"] = inspection
    result = run_module(devpi_info, {}).result
    (reason,) = result["reasons"]
    assert result["state"] == "degraded"
    assert error in reason


def test_slow_headers_do_not_exceed_the_timeout(run_module, host, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(_devpi, "probe", lambda client, level, index, project, listener_uid: ended.wait(60))
    result = run_module(devpi_info, {"request_timeout": 0.1}).result
    ended.set()
    assert "timed out" in result["reasons"][0]


def test_third_party_image(run_module, host):
    host["container"][0]["Config"]["Labels"] = {"devpi.mirror.role": "devpi_server"}
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["uuid"], result["cache"]) == ("ok", "c0ffee", None)
    assert "disk" not in result


@pytest.mark.parametrize(
    ("arguments", "option"),
    [({"index": "pypi"}, "index: "), ({"url": "localhost"}, "url: "), ({"request_timeout": 0}, "request_")],
)
def test_invalid_options(run_module, host, arguments, option):
    assert option in run_module(devpi_info, arguments).result["msg"]


def test_connection_options_are_those_of_the_client(run_module, host, monkeypatch):
    clients = []
    monkeypatch.setattr(_devpi, "probe", lambda client, *_args: clients.append(client) or READY)
    arguments = {
        "url": "https://devpi.example.com",
        "url_username": "ada",
        "url_password": "secret",
        "validate_certs": False,
    }
    assert run_module(devpi_info, arguments).result["state"] == "ok"
    assert clients[0].url == "https://devpi.example.com"
    assert clients[0]._headers == {"Authorization": "Basic YWRhOnNlY3JldA=="}
    assert run_module(devpi_info, {"url_username": "ada"}).failed
