# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _user_file
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError
from ansible_collections.devpi.mirror.plugins.module_utils._edit import INI, TOML, edit, parse
from hypothesis import given, settings
from hypothesis import strategies as st

INDEX = "http://localhost:3141/root/pypi/+simple/"
CONTENT = f"# Written by devpi.mirror.\n[global]\nindex-url = {INDEX}\n"
THEIRS = "# mine\n[global]\ntimeout = 20\nindex-url = https://example.com/simple\n"
LONGER = CONTENT + "timeout = 99\n"


class Home:
    """A home directory with one configuration file."""

    def __init__(self, path, name=".config/pip/pip.conf", file_format=INI):
        self.path = path
        self.file = path / name
        self.file_format = file_format

    def write(self, text, mode=0o644):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(text.encode("utf-8", "surrogateescape"))
        self.file.chmod(mode)

    def apply(self, content=CONTENT, check_mode=False):
        def wanted(original):
            return content if original is None else edit(original, parse(content, self.file_format), self.file_format)

        return _user_file.apply(str(self.file), self.file_format, wanted, check_mode).action

    def remove(self):
        return _user_file.apply(str(self.file), self.file_format, lambda _original: None, False).action

    def restore(self, check_mode=False):
        return _user_file.restore(str(self.file), self.file_format, check_mode).action

    def text(self):
        return self.file.read_bytes().decode("utf-8", "surrogateescape")

    def files(self):
        """Return contents and mode of all files, by path relative to the home directory."""
        return {
            str(path.relative_to(self.path)): "directory" if path.is_dir() else (path.read_bytes(), path.stat().st_mode)
            for path in self.path.rglob("*")
        }

    def names(self):
        """Return the names of the files beside the configuration file, and its own."""
        return [path.name for path in self.file.parent.iterdir()]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_user_without_a_file(home):
    assert home.apply() == "created"
    assert home.text() == CONTENT
    assert home.apply() == "unchanged"
    assert home.restore() == "removed"
    assert home.files() == {}
    assert home.restore() == "unchanged"


def test_user_with_a_file(home):
    home.write(THEIRS, 0o640)
    before = home.files()
    assert home.apply() == "updated"
    assert home.text() == THEIRS.replace("https://example.com/simple", INDEX)
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o640
    assert home.apply() == "unchanged"
    assert home.restore() == "restored"
    assert home.files() == before


def test_toml(tmp_path):
    home = Home(tmp_path, ".config/uv/uv.toml", TOML)
    home.write("# mine\ncache-dir = '/x'\n[pip]\nindex-url = 'https://example.com' # why\n")
    before = home.files()
    assert home.apply(f'[pip]\nindex-url = "{INDEX}"\n') == "updated"
    assert f'"{INDEX}" # why' in home.text()
    assert home.restore() == "restored"
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
def test_original_is_restored_byte_for_byte(home, text):
    home.write(text)
    before = home.files()
    for content in (CONTENT, LONGER, CONTENT):
        assert home.apply(content) == "updated"
        assert home.apply(content) == "unchanged"
    assert home.restore() == "restored"
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


@pytest.mark.exhaustive
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.none(), texts.filter(readable)), steps=st.lists(contents, min_size=1, max_size=3))
def test_original_is_restored_after_any_settings(tmp_path_factory, text, steps):
    home = Home(tmp_path_factory.mktemp("home"))
    if text is not None:
        home.write(text)
    before = home.files()
    for content in steps:
        home.apply(content)
        assert home.apply(content) == "unchanged"
    home.restore()
    assert home.files() == before


@pytest.mark.exhaustive
@settings(max_examples=60, deadline=None)
@given(text=texts.filter(readable), first=contents, second=contents)
def test_edits_of_the_user_are_preserved_by_any_settings(tmp_path_factory, text, first, second):
    home = Home(tmp_path_factory.mktemp("home"))
    home.write(text)
    home.apply(first)
    home.write(home.text() + "[freeze]\nlocal = true\n")
    home.apply(second)
    assert home.apply(second) == "unchanged"
    assert parse(home.text(), INI)["freeze"] == {"local": "true"}
    home.restore()
    assert parse(home.text(), INI) == dict(parse(text, INI), freeze={"local": "true"})
    assert home.names() == ["pip.conf"]


def test_settings_that_the_user_has_added_are_preserved(home):
    home.write(THEIRS)
    home.apply()
    home.write(home.text() + "[install]\nuser = true\n")
    assert home.apply() == "unchanged"
    assert home.restore() == "restored"
    assert home.text() == THEIRS + "[install]\nuser = true\n"
    assert home.names() == ["pip.conf"]


def test_settings_that_the_user_has_changed_are_preserved(home):
    home.apply()
    home.write("[global]\nindex-url = https://other.example.com/simple\n")
    assert home.restore() == "unchanged"
    assert home.text() == "[global]\nindex-url = https://other.example.com/simple\n"


def test_settings_that_the_user_has_added_to_a_new_file_are_preserved(home):
    home.apply()
    home.write(home.text() + "timeout = 3\n")
    assert home.restore() == "restored"
    assert home.text() == "[global]\ntimeout = 3\n"


def test_value_that_the_user_has_changed_is_applied_again_and_restored(home):
    home.apply()
    home.write("[global]\nindex-url = https://other.example.com/simple\n")
    assert home.apply() == "updated"
    assert INDEX in home.text()
    assert home.restore() == "restored"
    assert home.text() == "[global]\nindex-url = https://other.example.com/simple\n"


def test_file_that_the_user_has_removed_is_created_again(home):
    home.apply()
    home.file.unlink()
    assert home.apply() == "created"
    assert home.restore() == "removed"
    assert home.files() == {}


def test_setting_that_is_no_longer_applied_is_restored(home):
    home.write(THEIRS)
    home.apply(LONGER)
    assert "timeout = 99" in home.text()
    home.apply()
    assert home.text() == THEIRS.replace("https://example.com/simple", INDEX)


def test_setting_that_is_no_longer_applied_is_removed(home):
    home.apply(LONGER)
    home.apply()
    assert home.text() == CONTENT


def test_settings_of_the_user_that_are_equal_are_not_managed(home):
    home.write(CONTENT)
    before = home.files()
    assert home.apply() == "unchanged"
    assert home.restore() == "unchanged"
    assert home.files() == before


def test_file_is_removed_and_restored(home):
    home.write(THEIRS)
    before = home.files()
    assert home.remove() == "removed"
    assert not home.file.exists()
    assert home.remove() == "unchanged"
    assert _user_file.original_text(str(home.file), INI) == THEIRS
    assert home.restore() == "restored"
    assert home.files() == before


@pytest.mark.parametrize("text", ["[global\n", "index-url = x\n", "[a]\nx = 1\nx = 2\n"])
def test_invalid_file_is_not_changed(home, text):
    home.write(text)
    before = home.files()
    with pytest.raises(OperationError, match=r"pip.conf was not changed"):
        home.apply()
    assert home.files() == before


def test_check_mode_changes_nothing(home):
    assert home.apply(check_mode=True) == "created"
    assert home.files() == {}
    home.write(THEIRS)
    before = home.files()
    assert home.apply(check_mode=True) == "updated"
    assert home.files() == before
    home.apply()
    before = home.files()
    assert home.restore(check_mode=True) == "restored"
    assert home.files() == before


@pytest.mark.parametrize("dangling", [False, True])
def test_symbolic_link_is_followed_and_preserved(home, dangling):
    target = home.path / "dotfiles" / "pip.conf"
    target.parent.mkdir()
    if not dangling:
        target.write_text(THEIRS)
    home.file.parent.mkdir(parents=True)
    home.file.symlink_to(target)
    home.apply()
    assert home.file.is_symlink()
    assert INDEX in target.read_text()
    # The target's directory can be a checkout.
    assert [path.name for path in target.parent.iterdir()] == ["pip.conf"]
    home.restore()
    assert home.file.is_symlink()
    assert (target.read_text() if target.exists() else None) == (None if dangling else THEIRS)


def test_named_pipe_in_place_of_the_file(home):
    home.file.parent.mkdir(parents=True)
    os.mkfifo(str(home.file))
    with pytest.raises(OperationError, match="is not a regular file"):
        home.apply()


def test_directory_in_place_of_the_file(home):
    home.file.mkdir(parents=True)
    with pytest.raises(OperationError, match=f"{home.file} is a directory"):
        home.apply()


def test_credentials_are_readable_by_the_owner_only_and_masked(home):
    home.write(THEIRS)
    content = CONTENT.replace("//", "//ada:secret@")

    def wanted(original):
        return edit(original, parse(content, INI), INI)

    outcome = _user_file.apply(str(home.file), INI, wanted, False)
    assert "secret" not in json.dumps(outcome.as_dict())
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.file.parent.iterdir()} == {
        "pip.conf": 0o600,
        "pip.conf.before-devpi-mirror": 0o600,
        "pip.conf.devpi-mirror.json": 0o600,
    }
    home.restore()
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o644


def test_mode_that_the_user_has_set_is_preserved(home):
    home.write(THEIRS)
    home.apply()
    home.file.chmod(0o600)
    assert home.apply() == "unchanged"
    home.restore()
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600


@pytest.mark.needs_root
def test_group_is_preserved(home):
    home.write(THEIRS)
    os.chown(str(home.file), -1, 12345)
    home.apply()
    assert INDEX in home.text()
    assert home.file.stat().st_gid == 12345


def test_extended_attributes_are_preserved(home, monkeypatch):
    # Not all file systems support them. A file keeps its inode when it is renamed.
    attributes = {}

    def of(path):
        return attributes.setdefault(os.fstat(path).st_ino if isinstance(path, int) else Path(path).stat().st_ino, {})

    monkeypatch.setattr(os, "listxattr", lambda path: list(of(path)), raising=False)
    monkeypatch.setattr(os, "getxattr", lambda path, name: of(path)[name], raising=False)
    monkeypatch.setattr(os, "setxattr", lambda path, name, value: of(path).update({name: value}), raising=False)
    home.write(THEIRS)
    os.setxattr(str(home.file), "user.mine", b"1")
    before = home.file.stat().st_ino
    home.apply()
    assert INDEX in home.text()
    assert home.file.stat().st_ino != before
    assert os.getxattr(str(home.file), "user.mine") == b"1"


def test_label_that_can_not_be_preserved(home, monkeypatch):
    home.write(THEIRS)
    before = home.files()

    def refused(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(
        os, "listxattr", lambda path: ["security.selinux"] if path == str(home.file) else [], raising=False
    )
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"staff_u:object_r:etc_t:s0", raising=False)
    monkeypatch.setattr(os, "setxattr", refused, raising=False)
    with pytest.raises(OperationError, match="SELinux label: Operation not permitted"):
        home.apply()
    monkeypatch.undo()
    assert home.files() == before


def test_failed_write_leaves_the_file_unchanged(home, monkeypatch):
    home.write(THEIRS)
    before = home.files()

    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        home.apply()
    assert home.files() == before


def test_concurrent_edit_is_not_lost(home, monkeypatch):
    home.write(THEIRS)
    original = _user_file._write

    def write_and_edit(path, text, mode):
        original(path, text, mode)
        home.write(THEIRS + "[install]\nuser = true\n")

    monkeypatch.setattr(_user_file, "_write", write_and_edit)
    with pytest.raises(OperationError, match="was modified while it was being written"):
        home.apply()
    monkeypatch.undo()
    assert home.text() == THEIRS + "[install]\nuser = true\n"
    home.apply()
    home.restore()
    assert home.text() == THEIRS + "[install]\nuser = true\n"


CALLS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "fchmod", "close")


def crashes_at(number, work):
    """Call ``work`` in a process that exits before its system call with this number. Return whether it did."""
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("start", [None, THEIRS])
@pytest.mark.parametrize("last", [None, CONTENT, "edited"])
def test_crash_between_any_two_system_calls(tmp_path, start, last):
    """The process crashes while it replaces the settings ``last``, which were edited. The next run repairs the files."""
    number = 0
    while True:
        home = Home(tmp_path / str(number))
        home.path.mkdir()
        if start:
            home.write(start)
        before = home.files()
        if last:
            home.apply(CONTENT)
        if last == "edited":
            home.write(home.text() + "[freeze]\nlocal = true\n")
        old = home.text() if home.file.exists() else None
        crashed = crashes_at(number, lambda home=home: home.apply(LONGER))
        now = home.text() if home.file.exists() else None
        if now != old:
            assert parse(now, INI)["global"] == dict(
                parse(start or "", INI).get("global", {}), **parse(LONGER, INI)["global"]
            )
        home.apply(LONGER)
        assert home.apply(LONGER) == "unchanged"
        again = crashes_at(number, home.restore)
        home.restore()
        if last == "edited":
            assert parse(home.text(), INI) == dict(parse(start or "", INI), freeze={"local": "true"})
        else:
            remaining = {path: what for path, what in home.files().items() if what != "directory"}
            assert remaining == {path: what for path, what in before.items() if what != "directory"}
        if not crashed and not again:
            break
        number += 1
    assert number > 10


def test_record_of_version_0_1_0(home):
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
        home.file.with_name(home.file.name + name).write_text(text)
    assert home.apply() == "unchanged"
    assert home.apply(LONGER) == "updated"
    assert home.restore() == "restored"
    assert home.text() == THEIRS


@pytest.mark.parametrize("record", ["{}", "[]", "[" * 100_000])
def test_invalid_record(home, record):
    home.write(THEIRS)
    home.file.with_name(home.file.name + _user_file.RECORD).write_text(record)
    with pytest.raises(OperationError, match="is not a valid record: restore or remove it"):
        home.apply()
    assert home.text() == THEIRS
