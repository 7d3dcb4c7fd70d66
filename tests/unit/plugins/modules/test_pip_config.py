# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import pwd
import stat

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed
from ansible_collections.devpi.mirror.plugins.modules import pip_config

ME = pwd.getpwuid(os.geteuid())
INDEX = "http://localhost:3141/root/pypi/+simple/"
CONTENT = "# Written by devpi.mirror.\n[global]\nindex-url = %s\n" % INDEX
THEIRS = "# mine\n[global]\ntimeout = 20\nindex-url = https://example.com/simple\n"


@pytest.fixture
def home(tmp_path):
    """A home of this process's user, and its pip.conf."""

    class Home:
        path = str(tmp_path)
        file = tmp_path / ".config" / "pip" / "pip.conf"

        def write(self, text, mode=0o644):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_bytes(text.encode("utf-8", "surrogateescape"))
            self.file.chmod(mode)

        def put(self, content=CONTENT, check_mode=False):
            return pip_config.present(str(self.file), self.path, content, check_mode)["action"]

        def take(self, check_mode=False):
            return pip_config.absent(str(self.file), check_mode)["action"]

        def files(self):
            found = {}
            for folder, _folders, names in os.walk(self.path):
                for name in names:
                    path = os.path.join(folder, name)
                    with open(path, "rb") as stream:
                        found[os.path.relpath(path, self.path)] = (stream.read(), os.stat(path).st_mode)
            return found

    return Home()


def test_a_user_without_a_file(home):
    assert home.put() == "created"
    assert home.file.read_text() == CONTENT
    assert home.put() == "unchanged"
    assert home.take() == "removed"
    assert os.listdir(home.path) == []
    assert home.take() == "unchanged"


def test_a_user_with_a_file(home):
    home.write(THEIRS, 0o640)
    before = home.files()
    assert home.put() == "updated"
    assert home.file.read_text() == THEIRS.replace("https://example.com/simple", INDEX)
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o640
    assert home.put() == "unchanged"
    assert home.take() == "restored"
    assert home.files() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "[global]\r\ntimeout = 1\r\n",
        "[global]\nINDEX_URL: a",
        "# only a comment\n",
        "[install]\nuser = \udcff\n",
    ],
)
def test_what_was_there_comes_back_to_the_byte(home, text):
    home.write(text)
    before = home.files()
    home.put()
    home.put(CONTENT + "timeout = 5\n")
    home.put()
    home.take()
    assert home.files() == before


def test_what_the_user_has_added_since_stays(home):
    home.write(THEIRS)
    home.put()
    home.write(home.file.read_text() + "[install]\nuser = true\n")
    assert home.put() == "unchanged"
    assert home.take() == "restored"
    assert home.file.read_text() == THEIRS + "[install]\nuser = true\n"
    assert os.listdir(str(home.file.parent)) == ["pip.conf"]


def test_what_the_user_has_changed_since_stays(home):
    home.put()
    home.write("[global]\nindex-url = https://other.example.com/simple\n")
    assert home.take() == "unchanged"
    assert home.file.read_text() == "[global]\nindex-url = https://other.example.com/simple\n"


def test_what_the_user_has_added_to_a_new_file_stays_and_ours_goes(home):
    home.put()
    home.write(home.file.read_text() + "timeout = 3\n")
    assert home.take() == "restored"
    assert home.file.read_text() == "[global]\ntimeout = 3\n"


def test_a_file_that_the_user_has_removed_since_comes_again_and_goes_again(home):
    home.put()
    home.file.unlink()
    assert home.put() == "created"
    assert home.take() == "removed"
    assert os.listdir(home.path) == []


def test_a_setting_that_is_no_more_ours_gets_its_old_value(home):
    home.write(THEIRS)
    home.put(CONTENT + "timeout = 99\n")
    assert "timeout = 99" in home.file.read_text()
    home.put()
    assert home.file.read_text() == THEIRS.replace("https://example.com/simple", INDEX)


def test_a_setting_that_is_no_more_ours_and_had_no_value_goes(home):
    home.put(CONTENT + "timeout = 99\n")
    home.put()
    assert home.file.read_text() == CONTENT


def test_settings_that_are_there_already_are_not_ours(home):
    home.write(CONTENT)
    before = home.files()
    assert home.put() == "unchanged"
    assert home.take() == "unchanged"
    assert home.files() == before


@pytest.mark.parametrize("text", ["[global\n", "index-url = x\n", "[a]\nx = 1\nx = 2\n"])
def test_a_file_that_pip_can_not_read_is_left_alone(home, text):
    home.write(text)
    before = home.files()
    with pytest.raises(Failed, match=r"pip.conf is left as it is"):
        home.put()
    assert home.files() == before


def test_check_mode_tells_and_changes_nothing(home):
    assert home.put(check_mode=True) == "created"
    assert os.listdir(home.path) == []
    home.write(THEIRS)
    before = home.files()
    assert home.put(check_mode=True) == "updated"
    assert home.files() == before
    home.put()
    before = home.files()
    assert home.take(check_mode=True) == "restored"
    assert home.files() == before


def test_a_link_is_followed_and_stays(home):
    target = os.path.join(home.path, "dotfiles", "pip.conf")
    os.makedirs(os.path.dirname(target))
    with open(target, "w") as stream:
        stream.write(THEIRS)
    home.file.parent.mkdir(parents=True)
    os.symlink(target, str(home.file))
    home.put()
    assert os.path.islink(str(home.file))
    with open(target) as stream:
        assert INDEX in stream.read()
    home.take()
    with open(target) as stream:
        assert stream.read() == THEIRS


def test_a_pipe_in_place_of_the_file_does_not_hang_it(home):
    home.file.parent.mkdir(parents=True)
    os.mkfifo(str(home.file))
    with pytest.raises(Failed, match="no ordinary file"):
        home.put()


def test_credentials_are_for_their_owner_alone_and_not_shown(home):
    result = pip_config.present(str(home.file), home.path, CONTENT.replace("//", "//ada:secret@"), False)
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    assert "secret" not in json.dumps(result)
    assert "secret" in home.file.read_text()


def test_a_write_that_fails_leaves_the_old_file(home, monkeypatch):
    home.write(THEIRS)

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        home.put()
    assert home.file.read_text() == THEIRS
    assert [name for name in os.listdir(str(home.file.parent)) if name.startswith(".pip")] == []


def test_a_run_that_ended_half_way_is_made_good(home, monkeypatch):
    home.write(THEIRS)
    before = home.files()
    original = pip_config.write

    def dies(path, text, mode):
        if path == str(home.file):
            raise KeyboardInterrupt
        original(path, text, mode)

    monkeypatch.setattr(pip_config, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        home.put()
    monkeypatch.setattr(pip_config, "write", original)
    assert home.file.read_text() == THEIRS
    assert home.put() == "updated"
    home.take()
    assert home.files() == before


def test_an_older_file_that_says_something_else_is_reported(home):
    legacy = os.path.join(home.path, ".pip", "pip.conf")
    os.makedirs(os.path.dirname(legacy))
    with open(legacy, "w") as stream:
        stream.write("[global]\nindex-url = https://example.com/simple\n")
    result = pip_config.present(str(home.file), home.path, CONTENT, False)
    assert result["message"] == legacy + " sets another index-url; ours wins"


def test_the_path_on_macos(tmp_path):
    assert pip_config.config_path(str(tmp_path), "Darwin") == str(tmp_path / ".config" / "pip" / "pip.conf")
    folder = tmp_path / "Library" / "Application Support" / "pip"
    folder.mkdir(parents=True)
    assert pip_config.config_path(str(tmp_path), "Darwin") == str(folder / "pip.conf")
    assert pip_config.config_path(str(tmp_path), "Linux") == str(tmp_path / ".config" / "pip" / "pip.conf")


def test_numbers_of_ordinary_users():
    assert pip_config.login_defs("") == {"UID_MIN": 1000, "UID_MAX": 60000}
    text = "# UID_MIN 1\nUID_MIN\t\t  500\nSYS_UID_MIN 100\nUID_MAX 6000\n"
    assert pip_config.login_defs(text) == {"UID_MIN": 500, "UID_MAX": 6000}


def entry(name="ada", uid=None, home="/", shell="/bin/bash"):
    return pwd.struct_passwd((name, "x", os.geteuid() if uid is None else uid, os.getegid(), "", home, shell))


@pytest.mark.parametrize(
    ("user", "ordinary"),
    [
        (entry(uid=1000), True),
        (entry(uid=999), False),
        (entry(uid=60001), False),
        (entry(uid=1000, shell="/usr/sbin/nologin"), False),
        (entry(uid=1000, shell=""), False),
        (entry(uid=1000, home="/nowhere"), False),
    ],
)
def test_who_is_an_ordinary_user(user, ordinary):
    assert pip_config.is_ordinary(user, 1000, 60000) is ordinary


@pytest.fixture
def accounts(monkeypatch, tmp_path):
    """Accounts that are all this process's user, each with a home of its own."""
    known = {}

    def add(name, home=True):
        path = tmp_path / name
        if home:
            path.mkdir()
        known[name] = entry(name, home=str(path))
        return path / ".config" / "pip" / "pip.conf"

    monkeypatch.setattr(pwd, "getpwall", lambda: list(known.values()))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known[name])
    # These accounts are no real ones, and need not be become.
    monkeypatch.setattr(os, "initgroups", lambda name, group: None)
    return add


def run_all(run_module, **kwargs):
    uid = os.geteuid()
    arguments = {"content": CONTENT, "find_users": True, "uid_min": uid, "uid_max": uid}
    check_mode, diff = kwargs.pop("check_mode", False), kwargs.pop("diff", False)
    return run_module(pip_config, dict(arguments, **kwargs), check_mode=check_mode, diff=diff)


def test_all_users_in_one_call(run_module, accounts):
    files = [accounts("ada"), accounts("bob"), accounts("eve")]
    result = run_all(run_module, exclude=["eve"]).result
    assert [(user["name"], user["action"]) for user in result["users"]] == [("ada", "created"), ("bob", "created")]
    assert [file.exists() for file in files] == [True, True, False]
    assert result["changed"]
    assert not run_all(run_module, exclude=["eve"]).result["changed"]
    result = run_all(run_module, state="absent").result
    assert [user["action"] for user in result["users"]] == ["removed", "removed", "unchanged"]


def test_the_trouble_of_one_does_not_stop_the_others(run_module, accounts):
    good, bad = accounts("ada"), accounts("bob")
    bad.parent.mkdir(parents=True)
    bad.write_text("[broken\n")
    ended = run_all(run_module)
    assert ended.failed
    assert ended.result["changed"]
    assert "1 of 2 users not done: bob: " in ended.result["msg"]
    assert good.exists()
    assert bad.read_text() == "[broken\n"


def test_a_listed_user_who_does_not_exist_stops_it_before_anything(run_module, accounts):
    file = accounts("ada")
    ended = run_all(run_module, users=["ghost"])
    assert ended.failed
    assert "users: there is no user 'ghost'" in ended.result["msg"]
    assert not file.exists()


def test_a_listed_user_without_a_home_stops_it_before_anything(run_module, accounts):
    file = accounts("ada")
    accounts("bob", home=False)
    ended = run_all(run_module, users=["bob"])
    assert ended.failed
    assert "user 'bob' has no home" in ended.result["msg"]
    assert not file.exists()


def test_settings_that_do_not_parse_are_refused(run_module, accounts):
    ended = run_all(run_module, content="index-url = x\n")
    assert ended.failed
    assert "content: " in ended.result["msg"]


def test_the_diff_shows_each_user(run_module, accounts):
    accounts("ada"), accounts("bob")
    result = run_all(run_module, check_mode=True, diff=True).result
    assert [one["after"] for one in result["diff"]] == [CONTENT, CONTENT]
    assert "ada" in result["diff"][0]["after_header"]
