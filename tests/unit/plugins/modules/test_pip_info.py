# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pwd

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed
from ansible_collections.devpi.mirror.plugins.modules import pip_info

MIRROR = "http://localhost:3141/root/pypi/+simple/"
PLAIN = """env_var:
env:
global:
  /etc/xdg/pip/pip.conf, exists: False
  /etc/pip.conf, exists: %(global)s
%(global_keys)ssite:
  /usr/pip.conf, exists: False
user:
  /home/ada/.pip/pip.conf, exists: False
  /home/ada/.config/pip/pip.conf, exists: True
%(user_keys)s"""


def said(user_keys="", global_keys="", variables=""):
    text = PLAIN % {"global": bool(global_keys), "global_keys": global_keys, "user_keys": user_keys}
    return text.replace("env_var:\n", "env_var:\n" + variables)


def line(key, value):
    return "    %s: %s\n" % (key, value)


def test_a_user_of_the_mirror():
    told = pip_info.tell("ada", said(line("global.index-url", MIRROR)), MIRROR)
    assert told == {"name": "ada", "index": MIRROR, "source": "/home/ada/.config/pip/pip.conf", "problems": []}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (said(line("global.index-url", MIRROR), line("install.index-url", "https://other/")), "/etc/pip.conf"),
        (
            said(line("global.index-url", "https://other/"), line("global.index-url", MIRROR)),
            "/home/ada/.config/pip/pip.conf",
        ),
        (said(line("global.index-url", MIRROR), variables="  PIP_INDEX_URL='https://other/'\n"), "PIP_INDEX_URL"),
        (said(line("install.index-url", MIRROR), variables="  PIP_INDEX_URL='https://other/'\n"), "PIP_INDEX_URL"),
    ],
)
def test_what_wins(text, source):
    told = pip_info.tell("ada", text, MIRROR)
    assert (told["index"], told["source"]) == ("https://other/", source)
    (problem,) = told["problems"]
    assert source in problem
    assert "https://other/" in problem


def test_other_indexes_are_told_without_passwords():
    more = line("global.index-url", MIRROR) + line("global.extra-index-url", "https://ada:secret@example.com/simple")
    (problem,) = pip_info.tell("ada", said(more), MIRROR)["problems"]
    assert "asks another index too" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (said(), "pip asks its default index"),
        (Failed("it took longer than 25 seconds, and was given up"), "it took longer"),
        (said(line("global.index-url", MIRROR) + line("global.no-index", "true")), "has pip ask no index"),
    ],
)
def test_what_else_is_told(answer, problem):
    assert problem in pip_info.tell("ada", answer, MIRROR)["problems"][0]


def test_a_user_without_pip():
    assert pip_info.tell("ada", "", MIRROR) == {
        "name": "ada",
        "index": None,
        "source": "there is no pip",
        "problems": [],
    }


def test_pip_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(pip_info, "COMMAND", "echo $USER; " + pip_info.COMMAND)
    user = pwd.struct_passwd(("ada", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = %s\n" % MIRROR)
    said = pip_info.ask(user)
    assert said.startswith("ada\n")
    assert pip_info.tell("ada", said, MIRROR)["index"] == MIRROR


def test_every_user_is_asked(run_module, monkeypatch):
    monkeypatch.setattr(pip_info, "run_as_all", lambda users, work, limit: [said() for _user in users])
    name = pwd.getpwuid(0).pw_name
    result = run_module(pip_info, {"users": [name]}).result
    assert [user["name"] for user in result["users"]] == [name]
    assert run_module(pip_info, {"users": ["nobody-of-that-name"]}).failed
