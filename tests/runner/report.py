# SPDX-License-Identifier: GPL-3.0-or-later
"""Report the result of each step when it ends, and a summary of the run."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

SLOWEST = 10
LINES_OF_FAILED_TASK = 100
LINES_OF_END = 60
FAILED_TASK = re.compile(r"(fatal|failed): \[")
FAILED_TEST = re.compile(r"\s*(FAILED|ERROR) \S+::")
NEXT_TASK = re.compile(r"(TASK|PLAY|RUNNING HANDLER) ")


def failure_excerpt(lines: list[str]) -> list[str]:
    """Return the lines of a log that explain a failure.

    These are pytest's summary of failed tests, the first failed task with its output, and the end of the log. A task whose
    failure is ignored is not the cause.
    """
    tests = list(dict.fromkeys(line.strip() for line in lines if FAILED_TEST.match(line)))
    for number, line in enumerate(lines):
        if not FAILED_TASK.match(line):
            continue
        start = next((index for index in range(number, -1, -1) if NEXT_TASK.match(lines[index])), number)
        end = next((index for index in range(number + 1, len(lines)) if NEXT_TASK.match(lines[index])), len(lines))
        if any(text.startswith("...ignoring") for text in lines[number:end]):
            continue
        head = lines[start : number + 1]
        output = lines[number + 1 : end][-LINES_OF_FAILED_TASK:]
        return [*tests, *head, *output, "[...]", *lines[max(end, len(lines) - LINES_OF_END) :]]
    return [*tests, *lines[-150:]]


class Report:
    """The results of a run. Safe to use from several threads."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self._seconds: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def add(self, name: str, error: str, seconds: float, log: Path) -> None:
        """Count a step that has run. ``error`` is empty if it passed."""
        with self._lock:
            self._seconds.append((seconds, name))
            if not error:
                self.passed += 1
                print(f"passed   {seconds:6.0f} s  {name}", flush=True)
                return
            self.failed += 1
            print(f"FAILED   {seconds:6.0f} s  {name} ({error}). Excerpt of {log}:", flush=True)
            excerpt = failure_excerpt(log.read_text(errors="replace").splitlines())
            print("\n".join(f"    {line}" for line in excerpt), flush=True)

    def skip(self, name: str, reason: str) -> None:
        """Count a step that could not run. It counts as failed in CI, where all steps must run."""
        with self._lock:
            if os.environ.get("CI"):
                self.failed += 1
            else:
                self.skipped += 1
            print(f"SKIPPED           {name}: {reason}", flush=True)

    def print_summary(self, seconds: float, logs: Path) -> None:
        """Print the slowest steps, the folder of the logs, and in the last line the counts."""
        if len(self._seconds) > 1:
            print(f"\nSlowest of {len(self._seconds)} steps:")
            for step_seconds, name in sorted(self._seconds, reverse=True)[:SLOWEST]:
                print(f"  {step_seconds:6.0f} s  {name}")
        print(f"Total: {seconds:.0f} s. Logs: {logs}")
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}", flush=True)
