# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin that reports skipped tests as failures, so that no test is skipped unnoticed."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


def fail_if_skipped(report: Any) -> Any:
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped tests count as failures: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return fail_if_skipped((yield))
