# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail skipped tests, and set the number of examples of property tests.

The only exceptions are tests marked ``needs_root``, which are skipped for users without root privileges outside of CI.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

ALLOWED = "needs root"

# Results hardly depend on the version of Python. The oldest and the newest one run tests of many cases, and properties with
# more examples.
IS_BETWEEN = (3, 8) < sys.version_info[:2] < (3, 13)
settings.register_profile("fewer", max_examples=20, deadline=None)
if IS_BETWEEN:
    settings.load_profile("fewer")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_root: the test needs root privileges, as it becomes another user")
    config.addinivalue_line("markers", "exhaustive: a test of many cases, for the oldest and the newest Python")


def pytest_collection_modifyitems(config, items):
    deselected = [item for item in items if IS_BETWEEN and item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


def pytest_runtest_setup(item):
    # ansible-test does not pass the variable CI to the tests.
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
            report.longrepr = f"{item.nodeid} must not be skipped. {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    # pytest.importorskip and pytest.skip can skip a whole file.
    outcome = yield
    report = outcome.get_result()
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} must not be skipped. {reason}"
