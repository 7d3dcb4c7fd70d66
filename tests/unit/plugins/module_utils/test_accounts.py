# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pwd

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _accounts


def entry(name="ada", uid=1000, home="/", shell="/bin/bash"):
    return pwd.struct_passwd((name, "x", uid, 100, "", home, shell))


def test_uids_of_regular_users():
    assert _accounts.parse_uid_range("", "Linux") == (1000, 60000)
    assert _accounts.parse_uid_range("", "Darwin") == (501, 60000)
    text = "# UID_MIN 1\nUID_MIN\t\t  500\nSYS_UID_MIN 100\nUID_MAX 6000\n"
    assert _accounts.parse_uid_range(text, "Linux") == (500, 6000)


@pytest.fixture
def known(monkeypatch):
    users = [
        entry("zoe"),
        entry("ada", uid=60000),
        entry("daemon", uid=999),
        entry("nobody", uid=60001),
        entry("locked", shell="/usr/sbin/nologin"),
        entry("git", shell="/usr/bin/git-shell"),
        entry("none", shell=""),
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {user.pw_name: user for user in users}[name])


def names(users):
    return [user.pw_name for user in users]


def test_regular_users_are_selected(known):
    assert names(_accounts.select_users((1000, 60000), [], [])) == ["ada", "zoe"]


def test_users_are_named_and_excluded(known):
    assert names(_accounts.select_users((1000, 60000), ["daemon", "ada"], ["zoe"])) == ["ada", "daemon"]
    assert names(_accounts.select_users(None, ["locked"], [])) == ["locked"]


def test_named_user_must_exist(known):
    with pytest.raises(ValueError, match="user 'ghost' does not exist"):
        _accounts.select_users(None, ["ghost"], [])


def test_other_accounts_are_all_that_have_another_home(monkeypatch):
    ada = entry("ada", home="/home/ada")
    others = [entry("root", uid=0, home="/root"), entry("jenkins", uid=110, home="/srv", shell="/bin/false")]
    aliases = [entry("shared", uid=1001, home="/home/ada/"), entry("toor", uid=0, home="/root")]
    monkeypatch.setattr(pwd, "getpwall", lambda: [ada, *others, *aliases])
    unlisted = {"unlisted": entry("unlisted", uid=20000, home="/net/unlisted")}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: unlisted[name])
    found = _accounts.other_accounts([ada], ["unlisted", "ghost"])
    assert names(found) == ["root", "jenkins", "unlisted"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (".profile", "export XDG_CONFIG_HOME=$HOME/.settings"),
        (".profile", '  export XDG_CONFIG_HOME="${HOME}/.settings" # mine'),
        (".zshenv", "XDG_CONFIG_HOME=~/.settings"),
        (".bashrc", 'export XDG_CONFIG_HOME="${XDG_CONFIG_HOME:-$HOME/.settings}"'),
        (".pam_environment", "XDG_CONFIG_HOME DEFAULT=@{HOME}/.settings"),
        (".config/environment.d/50-xdg.conf", "XDG_CONFIG_HOME=$HOME/.settings/"),
    ],
)
def test_xdg_config_home_of_a_user(tmp_path, name, line):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# first\nexport PATH=$PATH:~/bin\n{line}\n")
    assert _accounts.config_home(str(tmp_path)) == (str(tmp_path / ".settings"), "")


def test_default_config_home(tmp_path):
    (tmp_path / ".profile").write_text("# XDG_CONFIG_HOME=/elsewhere\nexport OLD_XDG_CONFIG_HOME=/x\n")
    os.mkfifo(str(tmp_path / ".bashrc"))
    assert _accounts.config_home(str(tmp_path)) == (str(tmp_path / ".config"), "")


@pytest.mark.parametrize("lines", ["export XDG_CONFIG_HOME=$(xdg)\n", "XDG_CONFIG_HOME=/a\nXDG_CONFIG_HOME=/b\n"])
def test_unknown_config_home_is_reported(tmp_path, lines):
    (tmp_path / ".profile").write_text(lines)
    folder, warning = _accounts.config_home(str(tmp_path))
    assert folder == str(tmp_path / ".config")
    assert "set the option config_homes" in warning


def test_blank_lines_are_parsed_in_linear_time(tmp_path):
    blank = "\n" * 500_000
    (tmp_path / ".bashrc").write_text(blank + "export XDG_CONFIG_HOME=$HOME/.settings\n")
    assert _accounts.config_home(str(tmp_path)) == (str(tmp_path / ".settings"), "")
    (tmp_path / ".bashrc").write_text('export XDG_CONFIG_HOME="%s"\n' % ("${XDG_CONFIG_HOME-" * 100_000))
    assert _accounts.config_home(str(tmp_path))[0] == str(tmp_path / ".config")
    assert _accounts.parse_uid_range(blank + "UID_MIN 500\n", "Linux") == (500, 60000)
