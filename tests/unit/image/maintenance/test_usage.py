# SPDX-License-Identifier: GPL-3.0-or-later
"""How the maintenance counts requests and records which files were used."""

from __future__ import annotations

import os


def test_requests_are_counted_and_access_times_set(maintenance, files, store_file):
    usage = maintenance.usage
    path = store_file(b"content")
    os.utime(files / path, (1, 1))
    usage.REQUEST_LOG.write_text(
        f"HIT /{path}\nSTALE /root/pypi/+simple/a/\nEXPIRED /root/pypi/+simple/b/\nMISS /nowhere\n\n"
    )
    state = maintenance.state.read_state()
    requests = usage.read_requests()
    assert usage.has_misses(requests)
    assert not usage.has_misses(requests[:2])
    assert usage.record_requests(state, requests) == [path]
    assert state["requests"] == {"hit": 1, "stale": 1, "miss": 2}
    status = (files / path).stat()
    assert status.st_atime > status.st_mtime == 1
    assert usage.read_requests() == []


def test_a_requested_file_that_does_not_exist_is_not_recorded(maintenance):
    state = maintenance.state.read_state()
    requests = [("miss", "/root/pypi/+f/012/3456789abcdef/a.whl")]
    assert maintenance.usage.record_requests(state, requests) == []
