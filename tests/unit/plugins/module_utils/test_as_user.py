# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd
import time

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed, run_as

ME = pwd.getpwuid(os.geteuid())


def test_what_is_returned_comes_back():
    assert run_as(ME, lambda: {"uid": os.geteuid(), "long": "x" * 200000})["uid"] == os.geteuid()


def test_what_is_raised_comes_back_as_a_failure():
    def work():
        raise ValueError("no luck")

    with pytest.raises(Failed, match="no luck"):
        run_as(ME, work)


def test_an_error_of_the_system_names_the_file():
    with pytest.raises(Failed, match=r"/nowhere/file: No such file"):
        run_as(ME, lambda: {"x": os.stat("/nowhere/file").st_size})


def test_work_that_hangs_is_given_up():
    started = time.monotonic()
    with pytest.raises(Failed, match="given up"):
        run_as(ME, lambda: {"x": time.sleep(60)}, limit=0.2)
    assert time.monotonic() - started < 30


def test_work_that_is_killed_is_noticed():
    with pytest.raises(Failed, match="without a word"):
        run_as(ME, lambda: {"x": os.kill(os.getpid(), 9)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_the_user_and_nothing_more():
    nobody = pwd.getpwnam("nobody")
    rights = run_as(nobody, lambda: {"ids": [os.getresuid(), os.getresgid()], "groups": os.getgroups()})
    assert rights["ids"] == [[nobody.pw_uid] * 3, [nobody.pw_gid] * 3]
    assert 0 not in rights["groups"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_can_not_become_root():
    nobody = pwd.getpwnam("nobody")
    root = pwd.getpwuid(0)

    def work():
        try:
            return run_as(root, lambda: {"became": "root"})
        except Failed as exc:
            return {"refused": str(exc)}

    assert "become" in run_as(nobody, work)["refused"]
