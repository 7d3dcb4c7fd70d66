# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError, run_as_all

ME = pwd.getpwuid(os.geteuid())


def run_as(user, work, **kwargs):
    return run_as_all([user], lambda _user: work(), **kwargs)[0]


def test_result_is_returned():
    assert run_as(ME, lambda: [os.geteuid(), "x" * 200000]) == [os.geteuid(), "x" * 200000]


def test_exception_is_returned_as_an_error():
    def work():
        raise ValueError("no luck")

    failed = run_as(ME, work)
    assert isinstance(failed, OperationError)
    assert str(failed) == "no luck"


def test_system_error_names_the_file():
    assert "/nowhere/file: No such file" in str(run_as(ME, lambda: Path("/nowhere/file").stat().st_size))


def test_call_that_hangs_times_out():
    started = time.monotonic()
    assert "timed out" in str(run_as(ME, lambda: time.sleep(60), timeout=0.2))
    assert time.monotonic() - started < 30


def test_calls_that_hang_time_out_together():
    started = time.monotonic()
    results = run_as_all([ME] * 40, lambda _user: time.sleep(60), timeout=1, concurrency=40)
    assert [str(result) for result in results] == ["timed out after 1 s"] * 40
    assert time.monotonic() - started < 30


def test_results_are_in_the_order_of_the_users():
    users = [pwd.struct_passwd((str(number), *ME[1:])) for number in range(100)]
    assert run_as_all(users, lambda user: user.pw_name, concurrency=7) == [str(number) for number in range(100)]


def test_killed_worker_is_reported():
    assert "exited without a result" in str(run_as(ME, lambda: os.kill(os.getpid(), 9)))


@pytest.mark.needs_root
def test_root_has_only_the_privileges_of_the_user():
    nobody = pwd.getpwnam("nobody")
    privileges = run_as(nobody, lambda: {"ids": [os.getresuid(), os.getresgid()], "groups": os.getgroups()})
    assert privileges["ids"] == [[nobody.pw_uid] * 3, [nobody.pw_gid] * 3]
    assert 0 not in privileges["groups"]


@pytest.mark.needs_root
def test_user_can_not_become_root():
    error = run_as(pwd.getpwnam("nobody"), lambda: str(run_as(pwd.getpwuid(0), lambda: "became root")))
    assert "set become to true" in error


@pytest.mark.needs_root
def test_user_can_not_trace_the_worker():
    nobody = pwd.getpwnam("nobody")

    def spies(target):
        try:
            with Path(f"/proc/{target}/mem").open("rb"):
                return "read"
        except OSError:
            return "refused"

    def work():
        # A process that has dropped root's privileges can't be traced by the user.
        child = os.fork()
        if child == 0:
            os._exit(0 if spies(os.getppid()) == "refused" else 1)
        return os.waitpid(child, 0)[1]

    assert run_as(nobody, work) == 0
