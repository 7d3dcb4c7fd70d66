# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests, and report the result and the duration of each step: python -m runner [KIND ...] [OPTION ...]"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .catalog import scenarios
from .docker_daemon import docker_daemon_left_as_found
from .environment import CACHE, LOGS, environment, lay_out
from .report import Report
from .schedule import Schedule
from .steps import KINDS, Options, UsageError, all_steps, missing_pythons

# One more than there are cores, because steps also wait for disks and networks.
LANES = (os.cpu_count() or 1) + 1


def parse(arguments: list[str]) -> tuple[Options, int]:
    """Return what to run, and how many steps at a time. Raises SystemExit for bad arguments."""
    parser = argparse.ArgumentParser(prog="runner", description="Run the project's tests.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"what to run, by default all: {', '.join(KINDS)}")
    parser.add_argument("--scenario", dest="scenarios", action="append", default=[], help="run this molecule scenario")
    parser.add_argument("--tests", default="", help="for unit: options of pytest; for molecule: a playbook or test")
    parser.add_argument("--repeat", type=int, default=1, help="run each scenario this many times")
    parser.add_argument("--keep", action="store_true", help="leave the test host running")
    parser.add_argument("--jobs", type=int, default=LANES, help="run this many steps at a time (default: %(default)s)")
    values = parser.parse_args(arguments)
    unknown = set(values.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown kind {', '.join(sorted(unknown))}: choose from {', '.join(KINDS)}")
    if values.tests and values.kinds not in (["unit"], ["molecule"]):
        parser.error("T selects tests of unit or molecule, as in: make unit T='-k backup'")
    if values.kinds == ["molecule"] and (values.tests or values.keep) and len(values.scenarios) != 1:
        parser.error("T and KEEP need one scenario, as in: make molecule S=faults T=test_disk")
    jobs = values.__dict__.pop("jobs")
    return Options(**vars(values)), jobs


@contextmanager
def only_run_of_this_checkout() -> Iterator[None]:
    """Hold the lock of the checkout. Raises UsageError if another run holds it."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise UsageError(
                "Another test run uses this checkout. Wait until it has ended, or use another clone."
            ) from exc
        yield


def run(options: Options, jobs: int) -> Report:
    """Run the chosen steps. Raises UsageError for invalid options."""
    started = time.monotonic()
    report = Report()
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    # Molecule's state of hosts that an interrupted run has left.
    shutil.rmtree(CACHE / "ansible" / "tmp", ignore_errors=True)
    lay_out()
    schedule = Schedule(all_steps(options), environment(), report, LOGS)
    if not options.tests and "unit" in (options.kinds or KINDS):
        for version in missing_pythons():
            report.skip(
                f"unit: modules on Python {version}", "it is not installed on this machine; pyenv can install it"
            )
    with docker_daemon_left_as_found(keep=options.keep):
        schedule.run(jobs)
    report.print_summary(time.monotonic() - started, LOGS)
    return report


def main() -> int:
    options, jobs = parse(sys.argv[1:])
    try:
        with only_run_of_this_checkout():
            report = run(options, jobs)
    except UsageError as exc:
        print(exc, file=sys.stderr)
        return 2
    if options.keep:
        for name in options.scenarios:
            for host in scenarios()[name].hosts:
                print(f"Log in with:  docker exec --interactive --tty {host} bash")
                print(f"Remove it:    docker rm --force --volumes {host}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
