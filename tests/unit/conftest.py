# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail skipped tests, as a test that does not run proves nothing, and set how many inputs tests of properties try.

The only exception to the first are tests that are marked ``needs_root``, where an ordinary user runs them outside of CI.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

ALLOWED = "needs root"

# What holds for all inputs does not depend on the release of Python. The oldest and the newest try the most inputs.
settings.register_profile("fewer", max_examples=20, deadline=None)
if (3, 8) < sys.version_info[:2] < (3, 13):
    settings.load_profile("fewer")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_root: the test becomes another user, which only root can do")


def pytest_runtest_setup(item):
    # ansible-test does not pass CI on. Its caller has to run it as root there.
    if item.get_closest_marker("needs_root") and os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip(ALLOWED)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.endswith(ALLOWED):
            report.outcome = "failed"
            report.longrepr = "%s was skipped, and must run. %s" % (item.nodeid, reason)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    # Where pytest.importorskip or pytest.skip ends the import of a whole file.
    outcome = yield
    report = outcome.get_result()
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = "%s was skipped, and must run. %s" % (collector.nodeid, reason)
