# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _user_file
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed
from ansible_collections.devpi.mirror.plugins.module_utils._edit import INI, TOML, edit, parse
from hypothesis import given, settings
from hypothesis import strategies as st

INDEX = "http://localhost:3141/root/pypi/+simple/"
CONTENT = "# Written by devpi.mirror.\n[global]\nindex-url = %s\n" % INDEX
THEIRS = "# mine\n[global]\ntimeout = 20\nindex-url = https://example.com/simple\n"
LONGER = CONTENT + "timeout = 99\n"


class Home:
    """A folder with one file of settings in it."""

    def __init__(self, path, name=".config/pip/pip.conf", form=INI):
        self.path = str(path)
        self.file = path / name
        self.form = form

    def write(self, text, mode=0o644):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(text.encode("utf-8", "surrogateescape"))
        self.file.chmod(mode)

    def put(self, content=CONTENT, check_mode=False):
        def wanted(theirs):
            return content if theirs is None else edit(theirs, parse(content, self.form), self.form)

        return _user_file.put(str(self.file), self.form, wanted, check_mode).action

    def move_away(self):
        return _user_file.put(str(self.file), self.form, lambda theirs: None, False).action

    def take(self, check_mode=False):
        return _user_file.take(str(self.file), self.form, check_mode).action

    def text(self):
        return self.file.read_bytes().decode("utf-8", "surrogateescape")

    def files(self):
        found = {}
        for folder, folders, names in os.walk(self.path):
            for name in folders:
                found[os.path.relpath(os.path.join(folder, name), self.path)] = "folder"
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as stream:
                    found[os.path.relpath(path, self.path)] = (stream.read(), os.stat(path).st_mode)
        return found


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_a_user_without_a_file(home):
    assert home.put() == "created"
    assert home.text() == CONTENT
    assert home.put() == "unchanged"
    assert home.take() == "removed"
    assert home.files() == {}
    assert home.take() == "unchanged"


def test_a_user_with_a_file(home):
    home.write(THEIRS, 0o640)
    before = home.files()
    assert home.put() == "updated"
    assert home.text() == THEIRS.replace("https://example.com/simple", INDEX)
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o640
    assert home.put() == "unchanged"
    assert home.take() == "restored"
    assert home.files() == before


def test_a_file_of_toml(tmp_path):
    home = Home(tmp_path, ".config/uv/uv.toml", TOML)
    home.write("# mine\ncache-dir = '/x'\n[pip]\nindex-url = 'https://example.com' # why\n")
    before = home.files()
    assert home.put('[pip]\nindex-url = "%s"\n' % INDEX) == "updated"
    assert '"%s" # why' % INDEX in home.text()
    assert home.take() == "restored"
    assert home.files() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "[global]\r\ntimeout = 1\r\n",
        "[global]\rtimeout = 1\r",
        "[global]\nINDEX_URL: a",
        "# only a comment\n",
        "[install]\nuser = \udcff\n",
    ],
)
def test_what_was_there_comes_back_to_the_byte(home, text):
    home.write(text)
    before = home.files()
    for content in (CONTENT, LONGER, CONTENT):
        assert home.put(content) == "updated"
        assert home.put(content) == "unchanged"
    assert home.take() == "restored"
    assert home.files() == before


texts = st.lists(
    st.sampled_from(
        [
            "timeout = 20",
            "index-url=https://a ",
            "Index_URL : b",
            "# mine",
            "",
            "retries =\n  1",
            "[install]",
            "user = true",
        ]
    ),
    max_size=7,
    unique=True,
).map(lambda lines: "\n".join(["[global]", *lines]) + "\n")
contents = st.sampled_from([CONTENT, LONGER, "[install]\nuser = false\n", "[global]\nindex-url =\n    a\n    b\n"])


def readable(text):
    try:
        parse(text, INI)
    except ValueError:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.none(), texts.filter(readable)), steps=st.lists(contents, min_size=1, max_size=3))
def test_whatever_is_put_the_old_file_comes_back(tmp_path_factory, text, steps):
    home = Home(tmp_path_factory.mktemp("home"))
    if text is not None:
        home.write(text)
    before = home.files()
    for content in steps:
        home.put(content)
        assert home.put(content) == "unchanged"
    home.take()
    assert home.files() == before


@settings(max_examples=60, deadline=None)
@given(text=texts.filter(readable), first=contents, second=contents)
def test_edits_of_the_user_stay_whatever_is_put_then(tmp_path_factory, text, first, second):
    home = Home(tmp_path_factory.mktemp("home"))
    home.write(text)
    home.put(first)
    home.write(home.text() + "[freeze]\nlocal = true\n")
    home.put(second)
    assert home.put(second) == "unchanged"
    assert parse(home.text(), INI)["freeze"] == {"local": "true"}
    home.take()
    assert parse(home.text(), INI) == dict(parse(text, INI), freeze={"local": "true"})
    assert os.listdir(str(home.file.parent)) == ["pip.conf"]


def test_what_the_user_has_added_since_stays(home):
    home.write(THEIRS)
    home.put()
    home.write(home.text() + "[install]\nuser = true\n")
    assert home.put() == "unchanged"
    assert home.take() == "restored"
    assert home.text() == THEIRS + "[install]\nuser = true\n"
    assert os.listdir(str(home.file.parent)) == ["pip.conf"]


def test_what_the_user_has_changed_since_stays(home):
    home.put()
    home.write("[global]\nindex-url = https://other.example.com/simple\n")
    assert home.take() == "unchanged"
    assert home.text() == "[global]\nindex-url = https://other.example.com/simple\n"


def test_what_the_user_has_added_to_a_new_file_stays_and_ours_goes(home):
    home.put()
    home.write(home.text() + "timeout = 3\n")
    assert home.take() == "restored"
    assert home.text() == "[global]\ntimeout = 3\n"


def test_a_value_that_the_user_fights_for_is_set_again_and_given_back(home):
    home.put()
    home.write("[global]\nindex-url = https://other.example.com/simple\n")
    assert home.put() == "updated"
    assert INDEX in home.text()
    assert home.take() == "restored"
    assert home.text() == "[global]\nindex-url = https://other.example.com/simple\n"


def test_a_file_that_the_user_has_removed_since_comes_again_and_goes_again(home):
    home.put()
    home.file.unlink()
    assert home.put() == "created"
    assert home.take() == "removed"
    assert home.files() == {}


def test_a_setting_that_is_no_more_ours_gets_its_old_value(home):
    home.write(THEIRS)
    home.put(LONGER)
    assert "timeout = 99" in home.text()
    home.put()
    assert home.text() == THEIRS.replace("https://example.com/simple", INDEX)


def test_a_setting_that_is_no_more_ours_and_had_no_value_goes(home):
    home.put(LONGER)
    home.put()
    assert home.text() == CONTENT


def test_settings_that_are_there_already_are_not_ours(home):
    home.write(CONTENT)
    before = home.files()
    assert home.put() == "unchanged"
    assert home.take() == "unchanged"
    assert home.files() == before


def test_a_file_can_be_put_aside_and_comes_back(home):
    home.write(THEIRS)
    before = home.files()
    assert home.move_away() == "removed"
    assert not home.file.exists()
    assert home.move_away() == "unchanged"
    assert _user_file.without_us(str(home.file), INI) == THEIRS
    assert home.take() == "restored"
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
    assert home.files() == {}
    home.write(THEIRS)
    before = home.files()
    assert home.put(check_mode=True) == "updated"
    assert home.files() == before
    home.put()
    before = home.files()
    assert home.take(check_mode=True) == "restored"
    assert home.files() == before


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_is_followed_and_stays(home, dangling):
    target = os.path.join(home.path, "dotfiles", "pip.conf")
    os.makedirs(os.path.dirname(target))
    if not dangling:
        with open(target, "w") as stream:
            stream.write(THEIRS)
    home.file.parent.mkdir(parents=True)
    os.symlink(target, str(home.file))
    home.put()
    assert os.path.islink(str(home.file))
    with open(target) as stream:
        assert INDEX in stream.read()
    # Nothing of ours is in somebody's checkout.
    assert os.listdir(os.path.dirname(target)) == ["pip.conf"]
    home.take()
    assert os.path.islink(str(home.file))
    if dangling:
        assert not os.path.exists(target)
    else:
        with open(target) as stream:
            assert stream.read() == THEIRS


def test_a_pipe_in_place_of_the_file_does_not_hang_it(home):
    home.file.parent.mkdir(parents=True)
    os.mkfifo(str(home.file))
    with pytest.raises(Failed, match="no ordinary file"):
        home.put()


def test_a_directory_in_place_of_the_file_is_named(home):
    home.file.mkdir(parents=True)
    with pytest.raises(Failed, match="%s is a directory" % home.file):
        home.put()


def test_credentials_are_for_their_owner_alone_and_not_shown(home):
    home.write(THEIRS)
    content = CONTENT.replace("//", "//ada:secret@")

    def wanted(theirs):
        return edit(theirs, parse(content, INI), INI)

    told = _user_file.put(str(home.file), INI, wanted, False).told()
    assert "secret" not in json.dumps(told)
    assert {
        name: stat.S_IMODE((home.file.parent / name).stat().st_mode) for name in os.listdir(str(home.file.parent))
    } == {
        "pip.conf": 0o600,
        "pip.conf.before-devpi-mirror": 0o600,
        "pip.conf.devpi-mirror.json": 0o600,
    }
    home.take()
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o644


def test_a_mode_that_the_user_has_set_since_stays(home):
    home.write(THEIRS)
    home.put()
    home.file.chmod(0o600)
    assert home.put() == "unchanged"
    home.take()
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600


@pytest.mark.needs_root
def test_the_group_is_preserved(home):
    home.write(THEIRS)
    os.chown(str(home.file), -1, 12345)
    home.put()
    assert INDEX in home.text()
    assert home.file.stat().st_gid == 12345


def test_extended_attributes_are_preserved(home, monkeypatch):
    # Not all file systems of temporary files have them. A file that is renamed keeps its own.
    attributes = {}

    def of(path):
        return attributes.setdefault(os.stat(path).st_ino, {})

    monkeypatch.setattr(os, "listxattr", lambda path: list(of(path)), raising=False)
    monkeypatch.setattr(os, "getxattr", lambda path, name: of(path)[name], raising=False)
    monkeypatch.setattr(os, "setxattr", lambda path, name, value: of(path).update({name: value}), raising=False)
    home.write(THEIRS)
    os.setxattr(str(home.file), "user.mine", b"1")
    before = home.file.stat().st_ino
    home.put()
    assert INDEX in home.text()
    assert home.file.stat().st_ino != before
    assert os.getxattr(str(home.file), "user.mine") == b"1"


def test_a_label_that_can_not_be_kept_leaves_the_old_file(home, monkeypatch):
    home.write(THEIRS)
    before = home.files()

    def refused(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(
        os, "listxattr", lambda path: ["security.selinux"] if path == str(home.file) else [], raising=False
    )
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"staff_u:object_r:etc_t:s0", raising=False)
    monkeypatch.setattr(os, "setxattr", refused, raising=False)
    with pytest.raises(Failed, match="label that its user can't give: Operation not permitted"):
        home.put()
    monkeypatch.undo()
    assert home.files() == before


def test_a_write_that_fails_leaves_the_old_file(home, monkeypatch):
    home.write(THEIRS)
    before = home.files()

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        home.put()
    assert home.files() == before


def test_what_somebody_writes_at_this_moment_is_not_lost(home, monkeypatch):
    home.write(THEIRS)
    original = _user_file._write

    def busy(path, text, mode):
        original(path, text, mode)
        home.write(THEIRS + "[install]\nuser = true\n")

    monkeypatch.setattr(_user_file, "_write", busy)
    with pytest.raises(Failed, match="changed by somebody at this moment"):
        home.put()
    monkeypatch.undo()
    assert home.text() == THEIRS + "[install]\nuser = true\n"
    home.put()
    home.take()
    assert home.text() == THEIRS + "[install]\nuser = true\n"


CALLS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "fchmod", "close")


def dies_at(number, work):
    """Do ``work`` in a process that is killed before its call of the system with this number. Tell whether it was."""
    pid = os.fork()
    if pid == 0:
        calls = iter(range(1000))

        def counted(original):
            def call(*args, **kwargs):
                if next(calls) == number:
                    os._exit(9)
                return original(*args, **kwargs)

            return call

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitpid(pid, 0)[1] >> 8
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("start", [None, THEIRS])
@pytest.mark.parametrize("last", [None, CONTENT, "edited"])
def test_a_crash_between_any_two_calls_leaves_the_old_or_the_new_file(tmp_path, start, last):
    """First settings ``last`` are put (and edited), then others, and there it crashes. The next run makes all good."""
    number = 0
    while True:
        home = Home(tmp_path / str(number))
        os.mkdir(home.path)
        if start:
            home.write(start)
        before = home.files()
        if last:
            home.put(CONTENT)
        if last == "edited":
            home.write(home.text() + "[freeze]\nlocal = true\n")
        old = home.text() if home.file.exists() else None
        died = dies_at(number, lambda home=home: home.put(LONGER))
        now = home.text() if home.file.exists() else None
        if now != old:
            assert parse(now, INI)["global"] == dict(
                parse(start or "", INI).get("global", {}), **parse(LONGER, INI)["global"]
            )
        home.put(LONGER)
        assert home.put(LONGER) == "unchanged"
        again = dies_at(number, home.take)
        home.take()
        if last == "edited":
            assert parse(home.text(), INI) == dict(parse(start or "", INI), freeze={"local": "true"})
        else:
            left = {path: what for path, what in home.files().items() if what != "folder"}
            assert left == {path: what for path, what in before.items() if what != "folder"}
        if not died and not again:
            break
        number += 1
    assert number > 10


def test_what_version_0_1_0_has_left_is_understood(home):
    home.write(THEIRS.replace("https://example.com/simple", INDEX))
    for name, text in (
        (_user_file.BACKUP, THEIRS),
        (
            _user_file.RECORD,
            json.dumps(
                {
                    "version": 1,
                    "existed": True,
                    "ours": {"global": {"index-url": INDEX}},
                    "before": {"global": {"index-url": "https://example.com/simple"}},
                    "written": _user_file._digest(home.text()),
                    "folders": [],
                    "mode": 0o644,
                }
            ),
        ),
    ):
        with open(str(home.file) + name, "w") as stream:
            stream.write(text)
    assert home.put() == "unchanged"
    assert home.put(LONGER) == "updated"
    assert home.take() == "restored"
    assert home.text() == THEIRS


@pytest.mark.parametrize("record", ["{}", "[]", "[" * 100_000])
def test_a_record_that_can_not_be_read_stops_it(home, record):
    home.write(THEIRS)
    with open(str(home.file) + _user_file.RECORD, "w") as stream:
        stream.write(record)
    with pytest.raises(Failed, match="can't be read: restore or remove it"):
        home.put()
    assert home.text() == THEIRS
