# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one molecule scenario: python -m runner.scenario NAME [--tests TESTS] [--keep]

If it fails, it prints the state of its hosts and of the mirror on them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from .catalog import MOLECULE, Scenario
from .environment import TREE

SHARED_CONFIG = TREE / ".config" / "molecule" / "config.yml"
SHARED_FILES = MOLECULE / "shared" / "files"
DIAGNOSE = SHARED_FILES / "diagnose.sh"
# Actions without a playbook of their own that every verification needs.
SETUP = ("create", "prepare", "converge", "side_effect")
DIAGNOSE_SECONDS = 120


def test_sequence(name: str) -> list[str]:
    """Return the actions of a scenario, those that all share if it has none of its own."""
    for path in (MOLECULE / name / "molecule.yml", SHARED_CONFIG):
        sequence = yaml.safe_load(path.read_text()).get("scenario", {}).get("test_sequence")
        if sequence:
            return list(sequence)
    raise ValueError(f"{SHARED_CONFIG} has no test_sequence")


def kind(action: str) -> str:
    return action.split()[0]


def playbook_name(action: str) -> str:
    """Return the name that a verification is selected by: ``disk`` for ``verify disk.yml``."""
    return Path(action.split()[-1]).stem


def contains_selected_tests(name: str, action: str, tests: str) -> bool:
    """Return whether pytest selects a test in the file that a verification runs, if it runs one."""
    file = MOLECULE / name / "files" / f"test_{playbook_name(action)}.py"
    if not file.exists():
        return False
    command = ["pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", "-k", tests, str(file)]
    env = dict(
        os.environ, PYTHONPATH=str(SHARED_FILES), HOST="none", MOLECULE_INVENTORY_FILE="none", PLAY_VARIABLES="{}",
        MOLECULE_EPHEMERAL_DIRECTORY="none", MOLECULE_SCENARIO_DIRECTORY=str(MOLECULE / name),
    )  # fmt: skip
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0


def select(name: str, tests: str) -> list[str]:
    """Return the actions that set up a scenario's host and run the selected tests, up to the last of them.

    The side effects directly before a verification are its own setup. Raises SystemExit if there is no such test.
    """
    sequence = test_sequence(name)
    verifications = [action for action in sequence if kind(action) == "verify"]
    selected = [action for action in verifications if playbook_name(action) == tests]
    if not selected:
        selected = [action for action in verifications if contains_selected_tests(name, action, tests)]
    if not selected:
        playbooks = ", ".join(sorted({playbook_name(action) for action in verifications}))
        raise SystemExit(
            f"{name} has no test {tests}. Choose one of {playbooks}, or tests as pytest's -k selects them."
        )
    last = max(index for index, action in enumerate(sequence) if action in selected)
    actions: list[str] = []
    own_setup: list[str] = []
    for action in sequence[: last + 1]:
        if kind(action) == "side_effect" and action not in SETUP:
            own_setup.append(action)
            continue
        if action in selected:
            actions += own_setup
        if action in selected or action in SETUP:
            actions.append(action)
        own_setup = []
    return actions


def write_sequence(name: str, sequence: list[str]) -> None:
    """Replace the actions that the laid-out copy of a scenario runs."""
    path = MOLECULE / name / "molecule.yml"
    config = yaml.safe_load(path.read_text())
    config.setdefault("scenario", {})["test_sequence"] = sequence
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def diagnose(host: str) -> None:
    """Print the state of a test host and of the mirror on it."""
    print(f"\nState of {host}:", flush=True)
    with DIAGNOSE.open() as script:
        command = ["timeout", str(DIAGNOSE_SECONDS), "docker", "exec", "--interactive", host, "sh"]
        subprocess.run(command, stdin=script, stderr=subprocess.STDOUT, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="runner.scenario")
    parser.add_argument("name")
    parser.add_argument("--tests", default="")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    scenario = Scenario.load(MOLECULE / options.name)
    env = dict(os.environ)
    if options.tests:
        sequence = select(options.name, options.tests)
        write_sequence(options.name, sequence)
        if options.tests not in map(playbook_name, sequence):
            env.update(PYTEST_ADDOPTS=shlex.join(["-k", options.tests]), DEVPI_MIRROR_TEST_SELECTION=options.tests)

    def molecule(*arguments: str) -> int:
        return subprocess.run(["molecule", *arguments, "-s", options.name], cwd=TREE, env=env, check=False).returncode

    failed = 1
    try:
        # The playbook that creates the hosts replaces those that an interrupted run has left.
        failed = molecule("test", "--destroy", "never")
        if failed:
            for host in scenario.hosts:
                diagnose(host)
    finally:
        if not options.keep:
            failed = molecule("destroy") or failed
    return failed


def exit_on_signal(number: int, _frame: object) -> None:
    """Exit as after an exception, so that the hosts are removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, exit_on_signal)
    sys.exit(main())
