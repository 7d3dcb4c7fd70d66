# SPDX-License-Identifier: GPL-3.0-or-later
"""Which problems the maintenance reports and logs, and the mirror's status."""

from __future__ import annotations

import json
import time
import zlib

from devpi_mirror import compat

HOUR = 3600


def test_each_problem_is_logged_once_and_its_end_too(maintenance, capsys):
    status, state = maintenance.status, maintenance.state.read_state()
    state["failed_steps"]["evict files"] = "OSError: 1"
    status.log_problems(state)
    # Other numbers do not make it another problem.
    state["failed_steps"]["evict files"] = "OSError: 2"
    status.log_problems(state)
    state["failed_steps"].clear()
    status.log_problems(state)
    status.log_problems(state)
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == ["DEGRADED", "RECOVERED"]


def test_a_damaged_file_is_a_problem_until_it_is_repaired(maintenance, files, store_file):
    path = store_file(b"private", "alice/private")
    (files / path).write_bytes(b"damaged")
    state = maintenance.state.read_state()
    maintenance.integrity.quarantine(state, [path], {"root/pypi"})
    assert len(maintenance.status.find_problems(state)) == 1
    (files / path).write_bytes(b"private")
    assert maintenance.status.find_problems(state) == []


def test_settings_that_were_not_applied_are_a_problem(maintenance):
    for report in ("The settings of root/pypi were not applied.", ""):
        maintenance.config.SETTINGS_FAILED.write_text(report)
        (problem,) = maintenance.status.find_problems(maintenance.state.read_state())
        assert "were not applied." in problem


def test_projects_that_an_upstream_has_removed_are_listed_for_a_day(maintenance):
    now = time.time()
    for index, content in (
        ("root/pypi", [["six", now - HOUR], ["old", now - 25 * HOUR]]),
        ("alice/mirror", [["numpy", now]]),
        ("alice/damaged", {"six": 1}),
    ):
        folder = maintenance.config.PAGES / index / "0123"
        folder.mkdir(parents=True)
        (folder / "removed.json").write_text(json.dumps(content))
    (folder.parent / "4567").mkdir()
    (folder.parent / "4567" / "removed.json").write_text("[")
    assert maintenance.status.removed_projects() == [
        {"index": "alice/mirror", "project": "numpy", "at": now},
        {"index": "root/pypi", "project": "six", "at": now - HOUR},
    ]


def test_the_status_has_the_fallback_without_its_credentials(maintenance, monkeypatch):
    monkeypatch.setattr(maintenance.status, "probe_upstream", lambda url: {"url": url, "reachable": True})
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_URL", "https://ann:secret@a.example/simple/")
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_FALLBACK", "1")
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_FALLBACK_URL", "https://bob:secret@c.example/simple/")
    settings = {"root/pypi": compat.renamed({"mirror_url": "https://a.example/simple/"})}
    status = maintenance.status.mirror_status(settings)
    assert status["fallback"] == {"url": "https://c.example/simple/", "reachable": True}
    assert "secret" not in str(status)


def test_the_status_has_what_devpi_reports(maintenance, store_file, monkeypatch):
    about = {"role": "STANDALONE", "uuid": "one", "serial": 7, "versioninfo": {"devpi-server": "6"}}
    monkeypatch.setattr(maintenance.devpi_api, "send", lambda *_arguments, **_options: {"result": about})
    urls = {"root/pypi": "https://a.example/simple/", "root/other": "https://b.example/simple/"}
    settings = {index: compat.renamed({"mirror_url": url}) for index, url in urls.items()}
    monkeypatch.setattr(maintenance.data_directory, "mirror_settings", lambda: settings)
    monkeypatch.setattr(maintenance.status, "probe_upstream", lambda url: {"url": url, "reachable": True})
    (maintenance.config.DATA / "last-backup.json").write_text('{"at": 1, "file": "devpi.tar"}')
    store_file(b"public")
    status = maintenance.status.collect()
    assert status["devpi"] == {"role": "standalone", "uuid": "one", "serial": 7, "versions": {"devpi-server": "6"}}
    assert status["cache"] == {"files": 1, "bytes": 6}
    assert (status["upstream"], status["problems"]) == ({"url": urls["root/pypi"], "reachable": True}, [])
    assert status["mirrors"] == [{"index": "root/other", "url": urls["root/other"], "reachable": True}]
    assert status["fallback"] is None
    assert status["hidden"] == {"count": 0, "files": []}
    assert status["backup"] == {"at": 1, "file": "devpi.tar"}
    assert (status["replica"], status["replicas"], status["certificate_expires"]) == (None, None, None)


def test_the_status_has_the_state_of_the_replication(maintenance, monkeypatch):
    about = {"role": "REPLICA", "uuid": "one", "serial": 7, "versioninfo": {}, "polling_replicas": {}}
    monkeypatch.setattr(maintenance.devpi_api, "send", lambda *_arguments, **_options: {"result": about})
    monkeypatch.setattr(maintenance.data_directory, "mirror_settings", dict)
    monkeypatch.setattr(maintenance.replication, "replica", lambda about: {"serial": about["serial"]})
    status = maintenance.status.collect()
    assert (status["devpi"]["role"], status["replica"], status["replicas"]) == ("replica", {"serial": 7}, None)
    about["role"] = "MASTER"
    monkeypatch.setenv("DEVPISERVER_ROLE", "primary")
    status = maintenance.status.collect()
    assert (status["devpi"]["role"], status["replica"], status["replicas"]) == ("primary", None, [])


def test_the_status_reports_a_devpi_that_does_not_respond(maintenance, monkeypatch):
    def fail(*_arguments, **_options):
        raise maintenance.devpi_api.UnavailableError("Connection refused")

    monkeypatch.setattr(maintenance.devpi_api, "send", fail)
    status = maintenance.status.collect()
    assert (status["devpi"], status["cache"], status["upstream"]) == (None, None, None)
    (problem,) = status["problems"]
    assert problem.startswith("devpi-server does not respond (Connection refused)")


def test_hidden_files_of_cached_pages_are_listed(maintenance, load):
    url = "https://a.example/simple"
    store = load("page_store")
    pages = store.PageStore(store.page_folder(maintenance.config.PAGES, "root/pypi", url))
    for project, version in (("alpha", "1.0"), ("alpha-beta", "2.0")):
        file = {"filename": f"{project.replace('-', '_')}-{version}.tar.gz", "url": "https://a.example/f", "hashes": {}}
        listing = load("listing").localize({"files": [file]}, "root/pypi")
        assert pages.write(project, store.Header("", "", "", 1, 0, zlib.crc32(listing)), b"", listing)
    (pages.folder / "damaged.page").write_text("{")
    settings = {"root/pypi": {"block": ["alpha==1.0", "alpha-beta<2", "damaged"]}, "root/other": {}}
    found = maintenance.status.hidden_files(settings, {"root/pypi": url, "root/other": url})
    file = {"index": "root/pypi", "project": "alpha", "filename": "alpha-1.0.tar.gz"}
    assert found == {"count": 1, "files": [{**file, "rule": "block: alpha==1.0", "available_at": None}]}


def test_an_invalid_policy_is_a_problem_of_its_index(maintenance):
    settings = {"root/pypi": {"block": [">1"]}, "root/other": {"block": ["alpha"]}}
    (problem,) = maintenance.status.invalid_policies(settings)
    assert problem.startswith("root/pypi serves no packages, because its package policy is invalid: '>1'")
    urls = dict.fromkeys(settings, "https://a.example/simple")
    assert maintenance.status.hidden_files(settings, urls) == {"count": 0, "files": []}
