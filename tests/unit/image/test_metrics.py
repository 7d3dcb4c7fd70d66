# SPDX-License-Identifier: GPL-3.0-or-later
"""Which metrics the mirror exports, and that the documents name no others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from devpi_servers import file_url, log_in, prepare, request, running, set_upstream
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "roles" / "devpi_server" / "files" / "image"
NOW = 1_800_000_000.0
STANDALONE = {"role": "MASTER", "serial": 7, "polling_replicas": {}}
REPLICA = {
    "role": "REPLICA",
    "serial": 5,
    "polling_replicas": {},
    "primary-serial": 7,
    "replica-started-at": NOW - 900,
    "update-from-primary-at": NOW - 30,
    "replica-in-sync-at": NOW - 400,
    "replication-errors": {"a": {}},
}


def values(registry: CollectorRegistry) -> dict[str, float]:
    """Return the values of a registry, by names with labels."""
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True) * bool(sample.labels): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


@pytest.fixture
def metrics(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """The modules of the package ``metrics``, ``about``, which devpi reports, and ``collect``, which collects the state."""
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    monkeypatch.setenv("DEVPI_MIRROR_RUN", str(tmp_path))
    monkeypatch.setenv("DEVPI_MIRROR_METRICS", "true")
    for folder in ("server/+files/root/pypi", "nginx", "metrics"):
        (tmp_path / folder).mkdir(parents=True)
    found = SimpleNamespace(
        **{name: load(f"metrics.{name}") for name in ("requests", "state", "upstream")}, about=STANDALONE
    )

    def send(_method: str, path: str, limit: float = 0) -> dict[str, Any]:
        if found.about is None:
            raise OSError("devpi does not respond")
        index = {"type": "mirror"}
        return {"result": found.about if path == "/+status" else {"root": {"indexes": {"pypi": index}}}}

    def collect() -> dict[str, float]:
        state = found.state.State()
        state.count_files()
        registry = CollectorRegistry()
        registry.register(state)
        return values(registry)

    monkeypatch.setattr(found.state.status.devpi_api, "send", send)
    monkeypatch.setattr(found.state.time, "time", lambda: NOW)
    built = tmp_path / "pyvenv.cfg"
    built.touch()
    monkeypatch.setattr(found.state, "IMAGE_BUILT", built)
    monkeypatch.setattr(found.state, "TLS_FILE", tmp_path / "server.pem")
    found.collect = collect
    return found


def test_requests_are_counted_by_cache_result_and_status(metrics: SimpleNamespace) -> None:
    registry = CollectorRegistry()
    requests, log = metrics.requests.Requests(registry), metrics.requests.METRICS_LOG
    requests.count()
    log.write_text("HIT 200 1000\nHIT 206 10\nSTALE 200 5\nMISS 200 7\nEXPIRED 200 8\n- 404 9\ninvalid\n- 503 1")
    requests.count()
    # The rest of the last line.
    with log.open("a") as stream:
        stream.write("00\nHIT 304 1\n")
    requests.count()
    requests.count()

    def number(cache: str, status: str) -> float | None:
        return registry.get_sample_value("devpi_mirror_requests_total", {"cache": cache, "status": status})

    expected = {("hit", "2xx"): 2, ("hit", "3xx"): 1, ("stale", "2xx"): 1, ("miss", "2xx"): 2}
    expected |= {("none", "4xx"): 1, ("none", "5xx"): 1, ("none", "2xx"): 0}
    assert {labels: number(*labels) for labels in expected} == expected
    size = {
        name: registry.get_sample_value("devpi_mirror_response_bytes_total", {"cache": name})
        for name in ("hit", "none")
    }
    assert size == {"hit": 1011, "none": 109}


def test_the_log_of_requests_does_not_grow_forever(metrics: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.requests, "CHUNK", 100)
    registry = CollectorRegistry()
    requests, log = metrics.requests.Requests(registry), metrics.requests.METRICS_LOG
    for _round in range(3):
        with log.open("a") as stream:
            stream.write("HIT 200 10\n" * 30)
        requests.count()
        assert log.stat().st_size == 0
    assert registry.get_sample_value("devpi_mirror_requests_total", {"cache": "hit", "status": "2xx"}) == 90
    log.write_text("HIT 200 10\n")
    requests.clear()
    requests.count()
    assert registry.get_sample_value("devpi_mirror_requests_total", {"cache": "hit", "status": "2xx"}) == 90


def test_a_new_mirror_exports_no_values_that_it_does_not_have(metrics: SimpleNamespace) -> None:
    found = metrics.collect()
    assert found["devpi_mirror_devpi_up"] == 1
    assert found["devpi_mirror_problems"] == 0
    assert 0 < found["devpi_mirror_disk_free_bytes"] <= found["devpi_mirror_disk_size_bytes"]
    absent = ("backup", "check", "limit", "replica_", "certificate")
    assert [name for name in found if any(part in name for part in absent)] == []


def test_the_cache_is_counted_again_after_some_time(metrics: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(metrics.state.time, "monotonic", lambda: clock[0])
    state = metrics.state.State()
    folder = metrics.state.data_directory.FILES / "root" / "pypi"
    metrics.about = None
    state.count_files()
    assert state.cache == {}
    metrics.about = STANDALONE
    for name, time, expected in (("a", 1, 1), ("b", 2, 1), ("c", 302, 3)):
        (folder / name).write_text("text")
        clock[0] = time
        state.count_files()
        assert state.cache == {"cache_files": expected, "cache_bytes": 4 * expected}


def test_the_last_backup_and_check_are_exported(metrics: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = metrics.state.data_directory.DATA
    monkeypatch.setenv("DEVPI_MIRROR_BACKUP_EVERY", "1d")
    (data / "last-backup.json").write_text(json.dumps({"at": NOW - 60}))
    for error, success in (("", 1), ("the disk is full", 0)):
        (data / "backup-schedule.json").write_text(json.dumps({"attempted": NOW, "error": error}))
        found = metrics.collect()
        assert found["devpi_mirror_last_backup_success"] == success
        assert found["devpi_mirror_last_backup_timestamp_seconds"] == NOW - 60
        assert found["devpi_mirror_backup_interval_seconds"] == 86_400
    for change, success in (({}, 1), ({"damaged": 1}, 0), ({"lost": ["a"]}, 0), ({"error": "it failed"}, 0)):
        scrub = {"at": NOW - 5, "damaged": 0, "lost": [], "error": "", **change}
        (data / "maintenance.json").write_text(json.dumps({"scrub": scrub, "problems": ["one"]}))
        found = metrics.collect()
        assert found["devpi_mirror_last_check_success"] == success
        assert found["devpi_mirror_last_check_timestamp_seconds"] == NOW - 5
        assert found["devpi_mirror_problems"] == 1


def test_the_replication_is_exported(metrics: SimpleNamespace) -> None:
    metrics.about = REPLICA
    found = metrics.collect()
    assert {name: value for name, value in found.items() if "_replica_" in name or "serial" in name} == {
        "devpi_mirror_serial": 5,
        "devpi_mirror_replica_start_timestamp_seconds": NOW - 900,
        "devpi_mirror_replica_primary_serial": 7,
        "devpi_mirror_replica_update_timestamp_seconds": NOW - 30,
        "devpi_mirror_replica_in_sync": 0,
        "devpi_mirror_replica_in_sync_timestamp_seconds": NOW - 400,
        "devpi_mirror_replica_errors": 1,
    }
    for change, expected in (
        ({"serial": 7}, 1),
        # A file that can't be replicated.
        ({"serial": 7, "replica-in-sync-at": None}, 1),
        ({"primary-serial": None}, None),
    ):
        metrics.about = {**REPLICA, **change}
        assert metrics.collect().get("devpi_mirror_replica_in_sync") == expected
    replicas = {
        "a": {"in-request": False, "last-request": NOW - 10},
        "b": {"in-request": False, "last-request": NOW - 100},
        "c": {"in-request": True, "last-request": NOW - 100},
    }
    metrics.about = {**STANDALONE, "polling_replicas": replicas}
    assert metrics.collect()["devpi_mirror_polling_replicas"] == 2


def test_the_rest_is_exported_while_devpi_does_not_respond(metrics: SimpleNamespace) -> None:
    for about in (None, {"role": "REPLICA"}):
        metrics.about = about
        found = metrics.collect()
        assert found["devpi_mirror_devpi_up"] == 0
        assert found["devpi_mirror_disk_free_bytes"] > 0


def test_the_expiry_of_the_certificate_is_read_after_a_change(
    metrics: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, reads = metrics.state.tls, []

    def validity(pem: str) -> Any:
        reads.append(pem)
        if pem == "invalid":
            raise tls.CertificateError("invalid")
        return tls.Validity(0, float(pem))

    monkeypatch.setattr(tls, "validity", validity)
    state = metrics.state.State()
    assert state.certificate_expiry() is None
    metrics.state.TLS_FILE.write_text("4000000000")
    assert [state.certificate_expiry() for _request in range(3)] == [4e9] * 3
    assert len(reads) == 1
    metrics.state.TLS_FILE.unlink()
    metrics.state.TLS_FILE.write_text("invalid")
    assert state.certificate_expiry() is None


def test_without_metrics_devpi_counts_nothing() -> None:
    script = "import sys; from devpi_mirror import mirror, upstream; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(IMAGE)}, check=True)


def test_the_number_of_indexes_is_limited(metrics: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Instrument:
        def labels(self, index: str, *_labels: str) -> Any:
            seen.append(index)
            return SimpleNamespace(inc=lambda: None, observe=lambda _seconds: None)

    monkeypatch.setattr(metrics.upstream, "instruments", lambda: (Instrument(), Instrument()))
    for number in range(metrics.upstream.INDEXES + 2):
        metrics.upstream.recorder(f"root/{number}", "main")("2xx", 0.1)
    assert len(set(seen)) == metrics.upstream.INDEXES + 1
    assert seen[-1] == "other"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, upstream: Any, index: Any) -> Iterator[CollectorRegistry]:
    """What a devpi-server counts that has downloaded a page and a file, has then lost its upstream, and was restarted."""
    index.status["/simple/absent-project/"] = 404
    folder = tmp_path_factory.mktemp("counted")
    environ = prepare(folder, []) | {"DEVPI_MIRROR_METRICS": "true"}
    (folder / "metrics").mkdir()
    with running(folder, environ, []) as server:
        auth = log_in(server.url)
        set_upstream(server.url, auth, upstream.url)
        assert request(file_url(server, "six")).status == 200
        assert request(f"{server.url}/root/pypi/+simple/absent-project/").status == 404
        set_upstream(server.url, auth, "http://127.0.0.1:9/simple/")
    with running(folder, environ, []) as server:
        assert request(f"{server.url}/root/pypi/+simple/other-project/").status == 503
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(folder / "metrics"))
        yield registry


def test_requests_to_the_upstream_are_counted_across_restarts(counted: CollectorRegistry) -> None:
    labels = {"index": "root/pypi", "upstream": "main"}
    results = {
        result: counted.get_sample_value("devpi_mirror_upstream_requests_total", {**labels, "result": result})
        for result in ("2xx", "4xx", "no_response")
    }
    assert results["2xx"] is not None
    assert results["2xx"] >= 2
    assert results["4xx"] == results["no_response"] == 1
    total = sum(number or 0 for number in results.values())
    assert counted.get_sample_value("devpi_mirror_upstream_response_seconds_count", labels) == total


@pytest.fixture
def exported(metrics: SimpleNamespace, counted: CollectorRegistry) -> set[str]:
    """The names of all metrics."""
    registry = CollectorRegistry()
    metrics.requests.Requests(registry)
    named = {name.partition("{")[0] for name in [*values(registry), *values(counted)]}
    gauges = {f"devpi_mirror_{name}" for name in metrics.state.GAUGES} | {"devpi_mirror_info"}
    return {name for name in named | gauges if not name.endswith("_created")}


def names_in(path: str) -> set[str]:
    return set(re.findall(r"devpi_mirror_(?!port\b)\w+", (ROOT / path).read_text()))


@pytest.mark.parametrize("path", ["docs/monitoring/alerts.yml", "docs/monitoring/dashboard.json"])
def test_rules_and_dashboard_use_exported_metrics(exported: set[str], path: str) -> None:
    assert len(names_in(path)) > 10
    assert names_in(path) <= exported


def test_the_list_of_metrics_is_complete(exported: set[str]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text[text.index("## Monitor with Prometheus") :].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `(devpi_mirror_\w+)", section, re.MULTILINE))
    # A histogram has three of them.
    families = {re.sub(r"(response_seconds)_(bucket|sum|count)$", r"\1", name) for name in exported}
    assert listed == families


def test_the_dashboard_is_valid() -> None:
    dashboard = json.loads((ROOT / "docs" / "monitoring" / "dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) > 7
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
