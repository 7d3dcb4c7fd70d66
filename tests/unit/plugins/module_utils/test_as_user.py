# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
import time

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed, run_as_all

ME = pwd.getpwuid(os.geteuid())


def run_as(user, work, **kwargs):
    return run_as_all([user], lambda _user: work(), **kwargs)[0]


def test_what_is_returned_comes_back():
    assert run_as(ME, lambda: [os.geteuid(), "x" * 200000]) == [os.geteuid(), "x" * 200000]


def test_what_is_raised_comes_back_as_a_failure():
    def work():
        raise ValueError("no luck")

    failed = run_as(ME, work)
    assert isinstance(failed, Failed)
    assert str(failed) == "no luck"


def test_an_error_of_the_system_names_the_file():
    assert "/nowhere/file: No such file" in str(run_as(ME, lambda: os.stat("/nowhere/file").st_size))


def test_work_that_hangs_is_given_up():
    started = time.monotonic()
    assert "given up" in str(run_as(ME, lambda: time.sleep(60), limit=0.2))
    assert time.monotonic() - started < 30


def test_those_that_hang_do_not_keep_others_waiting_one_by_one():
    started = time.monotonic()
    answers = run_as_all([ME] * 40, lambda _user: time.sleep(60), limit=1, at_once=40)
    assert [str(answer) for answer in answers] == ["it took longer than 1 seconds, and was given up"] * 40
    assert time.monotonic() - started < 30


def test_many_answers_come_in_order():
    users = [pwd.struct_passwd((str(number), *ME[1:])) for number in range(100)]
    assert run_as_all(users, lambda user: user.pw_name, at_once=7) == [str(number) for number in range(100)]


def test_work_that_is_killed_is_noticed():
    assert "without a word" in str(run_as(ME, lambda: os.kill(os.getpid(), 9)))


@pytest.mark.needs_root
def test_root_becomes_the_user_and_nothing_more():
    nobody = pwd.getpwnam("nobody")
    rights = run_as(nobody, lambda: {"ids": [os.getresuid(), os.getresgid()], "groups": os.getgroups()})
    assert rights["ids"] == [[nobody.pw_uid] * 3, [nobody.pw_gid] * 3]
    assert 0 not in rights["groups"]


@pytest.mark.needs_root
def test_nobody_can_not_become_root():
    refused = run_as(pwd.getpwnam("nobody"), lambda: str(run_as(pwd.getpwuid(0), lambda: "became root")))
    assert "run this with become" in refused


@pytest.mark.needs_root
def test_a_user_can_not_look_into_the_process_that_works_for_them():
    nobody = pwd.getpwnam("nobody")

    def spies(target):
        try:
            with open("/proc/%d/mem" % target, "rb"):
                return "read"
        except OSError:
            return "refused"

    def work():
        # What root has given up its rights for is no more a process of the user's to trace.
        child = os.fork()
        if child == 0:
            os._exit(0 if spies(os.getppid()) == "refused" else 1)
        return os.waitpid(child, 0)[1]

    assert run_as(nobody, work) == 0
