# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror exports for Prometheus, and to which clients."""

from __future__ import annotations

import json
from urllib.parse import urljoin

import pytest
from exported import get, metrics
from harness import LOST, Mirror, send, until

mirror = Mirror()
PAGE = "/root/pypi/+simple/gamma/"
MISSES = 'devpi_mirror_requests_total{cache="miss",status="2xx"}'
HITS = 'devpi_mirror_requests_total{cache="hit",status="2xx"}'
UPSTREAM = 'devpi_mirror_upstream_requests_total{index="root/pypi",result="2xx",upstream="main"}'
DURATIONS = 'devpi_mirror_upstream_response_seconds_count{index="root/pypi",upstream="main"}'


def file_path() -> str:
    script = (
        f"import urllib.request as r; print(r.urlopen(r.Request('http://127.0.0.1:3141{PAGE}', headers={{'Accept': "
    )
    script += "'application/vnd.pypi.simple.v1+json'})).read().decode())"
    output = mirror.run(f'/opt/devpi/bin/python -c "{script}"')
    return urljoin(PAGE, str(json.loads(output)["files"][0]["url"]))


def test_a_miss_and_a_hit_are_counted() -> None:
    path = file_path()
    before = metrics()
    size = len(get(3141, path))
    until(lambda: metrics()[MISSES] > before[MISSES], "a cache miss is not counted")
    until(lambda: metrics().get(DURATIONS, 0) > before.get(DURATIONS, 0), "a request to the upstream is not counted")
    assert metrics()[UPSTREAM] > before.get(UPSTREAM, 0)
    until(lambda: mirror.run("find /data/server/+files -name 'gamma-*'"), "the file is not stored")
    get(3141, path)
    until(lambda: metrics()[HITS] > before[HITS], "a cache hit is not counted")
    hit_bytes = 'devpi_mirror_response_bytes_total{cache="hit"}'
    assert metrics()[hit_bytes] - before[hit_bytes] >= size / 2


def test_the_state_is_exported() -> None:
    until(lambda: "devpi_mirror_cache_bytes" in metrics(), "the size of the cache is not exported")
    values = metrics()
    assert values["devpi_mirror_devpi_up"] == 1
    assert 0 < values["devpi_mirror_disk_free_bytes"] < values["devpi_mirror_disk_size_bytes"]
    assert values["devpi_mirror_database_bytes"] > 0
    started = values["devpi_mirror_start_timestamp_seconds"]
    assert values["devpi_mirror_image_build_timestamp_seconds"] < started
    assert values["devpi_mirror_certificate_expiry_timestamp_seconds"] > started + 80 * 86_400
    (info,) = (name for name in values if name.startswith("devpi_mirror_info{"))
    assert 'role="primary"' in info


def test_clients_of_the_mirror_get_no_metrics() -> None:
    assert "devpi_mirror_" not in get(3141, "/metrics")
    with pytest.raises(LOST):
        send(3199, "/metrics", limit=5)
