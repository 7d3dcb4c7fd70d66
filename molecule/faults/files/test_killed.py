# SPDX-License-Identifier: GPL-3.0-or-later
"""A play on a bare host that is killed at each task that changes something, and run again each time.

The power of the host is cut at every fourth kill.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from harness import Mirror, await_upstream, boot, cut_power, on_host, set_upstream_mode
from plays import run_play, succeed

SITE = "devpi.mirror.site"
# More than the number of tasks to kill.
MAX_PLAYS = 80
POWER_CUT_EVERY = 4

# The advice about a port that Docker holds although no container uses it: it was starting one when the power was cut.
ADVICE = "Restart the Docker daemon"

# Every file that exists must be complete and readable, and bob's file must contain his own settings.
CHECK_FILES = r"""
set -e
read="import configparser, sys; configparser.RawConfigParser().read_file(open(sys.argv[1]))"
script=/etc/devpi-mirror.sh
if [ -e $script ]; then sh -n $script; tail -n 1 $script | grep -q .; fi
for user in ada bob op; do
    for file in /home/$user/.config/pip/pip.conf /home/$user/.pip/pip.conf; do
        if [ -e $file ]; then
            runuser -u $user -- python3 -c "$read" $file
        fi
    done
done
grep -q '^timeout = 20$' /home/bob/.config/pip/pip.conf
"""


def kill_workers(marker: str) -> None:
    """Kill the worker processes that a killed play has left on the controller, with ``marker`` in their environment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = False
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdigit() and marker.encode() in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
        if not found:
            return
        time.sleep(0.05)
    raise AssertionError("the worker processes of a killed play do not end")


def test_killed_at_every_task(tmp_path: Path) -> None:
    set_upstream_mode("normal")
    killed = tmp_path / "killed"
    env = {"KILLED_TASKS": str(killed), "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback")}
    for play in range(MAX_PLAYS):
        started = time.monotonic()
        done = run_play(SITE, env=env)
        if ADVICE in done.output:
            print(f"The play advises: {ADVICE}", flush=True)
            on_host("systemctl restart docker")
            continue
        if done.status != -signal.SIGKILL:
            break
        print(f"{time.monotonic() - started:4.0f} s, killed at: {killed.read_text().splitlines()[-1]}", flush=True)
        if play % POWER_CUT_EVERY == POWER_CUT_EVERY - 1:
            cut_power()
            boot()
            await_upstream()
        kill_workers(f"KILLED_TASKS={killed}")
        on_host(CHECK_FILES)
    assert done.status == 0, done.output
    assert succeed(SITE).changed == []
    assert Mirror().page("alpha").status == 200
    tasks = killed.read_text().splitlines()
    assert len(tasks) == len(set(tasks))
    # A play on a bare host has many such tasks. With fewer, the callback plugin has failed.
    assert len(tasks) > 10, tasks
