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

READY = _devpi.Seen(_devpi.READY, "index root/pypi exists", version="6.20.3", uuid="c0ffee", serial=4)
REFUSED = _devpi.Seen(_devpi.REFUSED, "nothing listens on that port")
CONTAINER = [
    {
        "State": {"Running": True, "StartedAt": "2026-11-02T08:00:12.123456789Z"},
        "HostConfig": {"RestartPolicy": {"Name": "no"}},
        "Config": {"Image": "devpi-mirror:1", "Labels": {"devpi.mirror.image": "devpi-server"}},
    }
]
INSIDE = {
    "requests": {"hit": 6, "stale": 1, "miss": 1},
    "scrub": {"at": 0, "files": 3, "damaged": 0, "lost": [], "error": ""},
    "troubles": [],
    "disk": {"free": 5, "total": 9},
    "limits": {"size": 0, "age": 0, "database": 0},
    "store_bytes": 77,
    "removed_projects": [{"index": "root/pypi", "project": "evil", "at": 1780000000.0}, {"project": "malformed"}],
    "backup": None,
    "cache": {"files": 3, "bytes": 99},
    "devpi": {"role": "standalone", "uuid": "c0ffee", "serial": 4, "versions": {"devpi-server": "6.20.3"}},
    "upstream": {"url": "https://example.com/simple/", "reachable": True, "error": ""},
}


@pytest.fixture
def host(monkeypatch):
    """What the host shows: the answer to ``docker exec``, the container, and what a client sees."""
    shows = {"inside": copy.deepcopy(INSIDE), "container": copy.deepcopy(CONTAINER), "seen": READY, "engine": True}
    shows["created"] = "2026-11-01T07:30:00.123456789Z"

    def execute(args):
        if args[1] == "info":
            info = {"ServerVersion": "29.0"} if shows["engine"] else {"ServerErrors": ["no socket"]}
            return 0, json.dumps(info), ""
        if args[1] == "image":
            return (0, shows["created"] + "\n", "") if shows["created"] else (1, "", "No such image")
        answer = shows["inside"] if args[1] == "exec" else shows["container"]
        if isinstance(answer, str):
            return 0, answer, ""
        return (1, "", "Traceback:\nKeyError: 'result'\n") if answer is None else (0, json.dumps(answer), "")

    monkeypatch.setattr(_docker, "execute", execute)
    monkeypatch.setattr(devpi_info.AnsibleModule, "get_bin_path", lambda self, name, opt_dirs: "/usr/bin/" + name)
    monkeypatch.setattr(_devpi, "look", lambda client, level, index, project, listener_uid: shows["seen"])
    return shows


def test_a_mirror_that_is_well(run_module, host):
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["reasons"]) == ("ok", [])
    assert (result["hit_rate"], result["up_since"]) == (0.875, "2026-11-02T08:00:12Z")
    assert result["last_scrub"]["at"] == "1970-01-01T00:00:00Z"
    assert result["last_backup"] is None
    assert result["versions"] == {"devpi-server": "6.20.3"}
    assert result["removed_projects"] == [{"index": "root/pypi", "project": "evil", "at": "2026-05-28T20:26:40Z"}]


@pytest.mark.parametrize(
    ("created", "reported", "days"),
    [
        ("2026-11-01T07:30:00.123456789Z", "2026-11-01T07:30:00Z", 12),
        ("2026-11-13T07:30:01Z", "2026-11-13T07:30:01Z", 0),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 739932),
        ("", None, None),
    ],
)
def test_how_old_the_image_is(run_module, host, monkeypatch, created, reported, days):
    host["created"] = created
    monkeypatch.setattr(devpi_info.time, "time", lambda: 1794555001.0)  # 2026-11-13T07:30:01Z
    result = run_module(devpi_info, {}).result
    assert (result["image_created"], result["image_age_days"]) == (reported, days)


def test_what_is_wrong_inside_and_upstream(run_module, host):
    host["inside"]["troubles"] = ["The disk is full."]
    host["inside"]["upstream"].update(reachable=False, error="Connection refused")
    result = run_module(devpi_info, {}).result
    assert result["state"] == "degraded"
    assert result["reasons"][0] == "The disk is full."
    assert "Connection refused" in result["reasons"][1]


def test_a_devpi_that_is_away_while_nginx_serves(run_module, host):
    host["inside"].update(devpi=None, cache=None, upstream=None, troubles=["devpi-server does not answer"])
    host["inside"]["requests"] = {"hit": 0, "stale": 0, "miss": 0}
    host["seen"] = _devpi.Seen(_devpi.SERVER_ERROR, "it answers 503")
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["reasons"]) == ("degraded", ["devpi-server does not answer"])
    assert (result["serial"], result["hit_rate"]) == (None, None)


def test_a_port_that_is_not_published(run_module, host):
    host["seen"] = REFUSED
    result = run_module(devpi_info, {}).result
    assert result["state"] == "degraded"
    assert "nothing listens on that port" in result["reasons"][0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": False}, "The Docker engine does not answer (no socket)"),
        ({"container": None}, "There is no container devpi"),
        ({"container": [{**CONTAINER[0], "State": {"Running": False}}]}, "does not run"),
    ],
)
def test_a_mirror_that_is_down(run_module, host, change, reason):
    host.update(change, seen=REFUSED)
    result = run_module(devpi_info, {}).result
    assert result["state"] == "down"
    assert reason in result["reasons"][0]
    assert result["up_since"] is None


def test_a_listener_of_another_user_is_reported_while_the_mirror_is_down(run_module, host):
    host.update(container=None, seen=_devpi.Seen(_devpi.OTHER_SERVICE, "the user with UID 1000 listens on that port"))
    result = run_module(devpi_info, {}).result
    assert result["state"] == "down"
    assert "UID 1000" in result["reasons"][1]


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        (None, "KeyError: 'result'"),
        ("Warning: {", "is not JSON"),
        ("null", "is not a JSON object"),
        ({**INSIDE, "disk": 5, "devpi": []}, "lacks devpi, disk"),
        ({**INSIDE, "backup": {}, "requests": {"hit": 1}, "scrub": {"at": "x"}}, "lacks backup, requests, scrub"),
        ({**INSIDE, "backup": {"at": 1e300}, "scrub": {"at": float("nan")}}, "lacks backup, scrub"),
        ("[" * 100_000, "is not JSON"),
        (
            {"troubles": []},
            "lacks backup, cache, devpi, disk, limits, removed_projects, requests, scrub, store_bytes, upstream",
        ),
    ],
)
def test_an_inspection_that_fails_is_reported(run_module, host, inside, why):
    host["inside"] = inside
    result = run_module(devpi_info, {}).result
    (reason,) = result["reasons"]
    assert result["state"] == "degraded"
    assert why in reason


def test_a_server_that_sends_its_headers_slowly_takes_no_longer_than_the_timeout(run_module, host, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(_devpi, "look", lambda client, level, index, project, listener_uid: ended.wait(60))
    result = run_module(devpi_info, {"timeout": 0.1}).result
    ended.set()
    assert "no answer in time" in result["reasons"][0]


def test_a_third_party_image(run_module, host):
    host["container"][0]["Config"]["Labels"] = {"devpi.mirror.role": "devpi_server"}
    result = run_module(devpi_info, {}).result
    assert (result["state"], result["uuid"], result["cache"]) == ("ok", "c0ffee", None)
    assert "disk" not in result


def test_bad_input(run_module, host):
    assert "root/pypi" in run_module(devpi_info, {"index": "pypi"}).result["msg"]
