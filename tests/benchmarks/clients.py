# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a converged run for the pip.conf of 1, 20 and 200 users, next to the usual ways.

Each measurement is a run of ansible-playbook against a test host, in turns with the others. The time of an empty play is
subtracted. Prints a table, and saves all measurements in .cache/bench/clients.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from runner.docker_daemon import docker_daemon_left_as_found
from runner.environment import CACHE, TREE, environment, lay_out
from runner.prerequisites import build_test_hosts

HOST = "devpi-mirror-bench"
IMAGE = "devpi-mirror-test-bare:bookworm"
WAYS = ("nothing", "pip_config", "ini_file", "template")
COUNTS = (1, 20, 200)
ROUNDS = 3


def docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, stdout=subprocess.DEVNULL)


def play(way: str, count: int, env: dict[str, str]) -> float:
    """Run the playbook, and return its duration in seconds. Raises RuntimeError if it fails."""
    command = ["ansible-playbook", "--inventory", f"{HOST},", "--connection", "community.docker.docker"]
    command += ["--extra-vars", json.dumps({"way": way, "count": count}), "tests/benchmarks/clients.yml"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=TREE, env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return seconds


def measure(env: dict[str, str]) -> dict[int, dict[str, list[float]]]:
    """Return the duration of each run, by number of users and way."""
    times: dict[int, dict[str, list[float]]] = {}
    created = 0
    for count in COUNTS:
        names = " ".join(f"user{number}" for number in range(created, count))
        docker("exec", HOST, "sh", "-ec", f"for name in {names}; do useradd --create-home $name; done")
        created = count
        for way in WAYS:
            # The run that changes something.
            play(way, count, env)
        times[count] = {way: [] for way in WAYS}
        for number in range(ROUNDS):
            for way in WAYS:
                times[count][way].append(play(way, count, env))
            print(f"{count} users, round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    return times


def table(times: dict[int, dict[str, list[float]]]) -> str:
    lines = ["| Users | pip_config | loop of ini_file | loop of template |", "| --- | --- | --- | --- |"]
    for count, ways in times.items():
        medians = {way: statistics.median(seconds) for way, seconds in ways.items()}
        own = {way: max(medians[way] - medians["nothing"], 0.001) for way in WAYS}
        cells = [f"{own[way]:.2f} s ({own[way] / own['pip_config']:.1f} x)" for way in WAYS[1:]]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    lay_out()
    env = environment()
    # The usual ways are as fast as they can be.
    env.update(ANSIBLE_PIPELINING="true", ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3")
    with docker_daemon_left_as_found():
        build_test_hosts("bare:bookworm")
        docker("run", "--detach", "--rm", "--network", "none", "--name", HOST, IMAGE, "sleep", "infinity")
        try:
            times = measure(env)
        finally:
            docker("rm", "--force", "--volumes", HOST)
    folder = CACHE / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clients.json").write_text(json.dumps(times, indent=2) + "\n")
    print(table(times))


if __name__ == "__main__":
    main()
