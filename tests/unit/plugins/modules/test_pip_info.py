# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pwd

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError
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


def output_of(user_keys="", global_keys="", variables=""):
    text = PLAIN % {"global": bool(global_keys), "global_keys": global_keys, "user_keys": user_keys}
    return text.replace("env_var:\n", "env_var:\n" + variables)


def line(key, value):
    return f"    {key}: {value}\n"


def test_user_of_the_mirror():
    values = pip_info.user_values("ada", output_of(line("global.index-url", MIRROR)), MIRROR)
    assert values == {"name": "ada", "index": MIRROR, "source": "/home/ada/.config/pip/pip.conf", "problems": []}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (output_of(line("global.index-url", MIRROR), line("install.index-url", "https://other/")), "/etc/pip.conf"),
        (
            output_of(line("global.index-url", "https://other/"), line("global.index-url", MIRROR)),
            "/home/ada/.config/pip/pip.conf",
        ),
        (output_of(line("global.index-url", MIRROR), variables="  PIP_INDEX_URL='https://other/'\n"), "PIP_INDEX_URL"),
        (output_of(line("install.index-url", MIRROR), variables="  PIP_INDEX_URL='https://other/'\n"), "PIP_INDEX_URL"),
    ],
)
def test_precedence(text, source):
    values = pip_info.user_values("ada", text, MIRROR)
    assert (values["index"], values["source"]) == ("https://other/", source)
    (problem,) = values["problems"]
    assert source in problem
    assert "https://other/" in problem


def test_other_indexes_are_reported_without_passwords():
    more = line("global.index-url", MIRROR) + line("global.extra-index-url", "https://ada:secret@example.com/simple")
    (problem,) = pip_info.user_values("ada", output_of(more), MIRROR)["problems"]
    assert "adds another index" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (output_of(), "pip uses its default index"),
        (OperationError("timed out after 25 s"), "timed out"),
        (output_of(line("global.index-url", MIRROR) + line("global.no-index", "true")), "disables all indexes"),
    ],
)
def test_problems(output, problem):
    assert problem in pip_info.user_values("ada", output, MIRROR)["problems"][0]


def test_user_without_pip():
    assert pip_info.user_values("ada", "", MIRROR) == {
        "name": "ada",
        "index": None,
        "source": "pip is not installed",
        "problems": [],
    }


def test_output_of_pip(monkeypatch, tmp_path):
    monkeypatch.setattr(pip_info, "COMMAND", "echo $USER; " + pip_info.COMMAND)
    user = pwd.struct_passwd(("ada", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text(f"[global]\nindex-url = {MIRROR}\n")
    output = pip_info.run_pip(user)
    assert output.startswith("ada\n")
    assert pip_info.user_values("ada", output, MIRROR)["index"] == MIRROR


def test_all_users(run_module, monkeypatch):
    monkeypatch.setattr(pip_info, "run_as_all", lambda users, function, timeout: [output_of() for _user in users])
    name = pwd.getpwuid(0).pw_name
    result = run_module(pip_info, {"users": [name]}).result
    assert [user["name"] for user in result["users"]] == [name]
    assert run_module(pip_info, {"users": ["nobody-of-that-name"]}).failed
