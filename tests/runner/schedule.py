# SPDX-License-Identifier: GPL-3.0-or-later
"""Run steps concurrently, each when the steps that it needs have passed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from .report import Report
from .step import Step

# Seconds after which a step is terminated. Steps that usually take more than half of them have twice their usual time.
STEP_LIMIT = 30 * 60
# Seconds that a terminated step has for its cleanup.
GRACE = 60


class Schedule:
    """The steps of a run and its progress.

    Of the steps that can start, the one at the beginning of the longest chain of steps starts first.
    """

    def __init__(self, steps: list[Step], env: dict[str, str], report: Report, logs: Path) -> None:
        self._steps = {step.name: step for step in steps}
        if len(self._steps) != len(steps):
            raise ValueError("two steps have the same name")
        self._env = env
        self._report = report
        self._logs = logs
        self._waiting = sorted(steps, key=self._chain, reverse=True)
        self._passed: dict[str, bool] = {}
        self._locks: set[str] = set()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._changed = threading.Condition()

    def _chain(self, step: Step) -> float:
        """Return the seconds from the start of a step to the end of all steps that need it."""
        return step.seconds + max(
            (self._chain(other) for other in self._steps.values() if step.name in other.needs), default=0
        )

    def run(self, lanes: int) -> None:
        """Run all steps, ``lanes`` at a time."""
        with ThreadPoolExecutor(lanes) as pool:
            futures = [pool.submit(self._work) for _lane in range(lanes)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._abort()
                raise

    def _abort(self) -> None:
        with self._changed:
            self._waiting.clear()
            # Threads remove theirs when they end.
            for process in list(self._processes):
                terminate(process)
            self._changed.notify_all()

    def _work(self) -> None:
        while step := self._next():
            passed = self._run_step(step)
            with self._changed:
                self._passed[step.name] = passed
                self._locks.discard(step.lock)
                self._changed.notify_all()

    def _next(self) -> Step | None:
        """Wait until a step can start and return it, None if none is left."""
        with self._changed:
            while self._waiting:
                for step in list(self._waiting):
                    failed = [name for name in step.needs if self._passed.get(name) is False]
                    if failed:
                        self._waiting.remove(step)
                        self._passed[step.name] = False
                        self._report.skip(step.title, f"it needs {failed[0]}, which failed")
                    elif all(self._passed.get(name) for name in step.needs) and step.lock not in self._locks:
                        self._waiting.remove(step)
                        if step.lock:
                            self._locks.add(step.lock)
                        return step
                if self._waiting:
                    self._changed.wait()
            return None

    def _run_step(self, step: Step) -> bool:
        log = self._logs / (re.sub(r"\W+", "-", step.title).strip("-") + ".log")
        started = time.monotonic()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                step.command, cwd=step.folder, env={**self._env, **step.env}, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._processes.add(process)
            limit = max(STEP_LIMIT, 2 * step.seconds)
            try:
                code = process.wait(timeout=limit)
                error = f"exit code {code}" if code else ""
            except subprocess.TimeoutExpired:
                terminate(process)
                error = f"terminated after {limit} s"
            finally:
                self._processes.discard(process)
        self._report.add(step.title, error, time.monotonic() - started, log)
        return not error


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process and all processes that it has started."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return
