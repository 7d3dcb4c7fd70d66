# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import pwd
import time
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible_collections.devpi.mirror.plugins.module_utils import _accounts
from ansible_collections.devpi.mirror.plugins.modules import pip_config

INDEX = "http://localhost:3141/root/pypi/+simple/"
CONTENT = f"# Written by devpi.mirror.\n[global]\nindex-url = {INDEX}\n"
UV = f'[pip]\nindex-url = "{INDEX}"\n'
THEIRS = "# mine\n[global]\ntimeout = 20\nindex-url = https://example.com/simple\n"


def paths(places):
    return {place.tool: place.path for place in places}


def test_places_on_linux(tmp_path):
    home = str(tmp_path)
    assert paths(pip_config.user_places(home, home + "/xdg", "Linux")) == {
        "pip": home + "/xdg/pip/pip.conf",
        "uv": home + "/xdg/uv/uv.toml",
        "poetry": home + "/xdg/pypoetry/config.toml",
        "pdm": home + "/xdg/pdm/config.toml",
        "pixi": home + "/xdg/pixi/config.toml",
    }
    assert paths(pip_config.global_places("Linux")) == {
        "pip": "/etc/pip.conf",
        "uv": "/etc/uv/uv.toml",
        "pdm": "/etc/xdg/pdm/config.toml",
        "pixi": "/etc/pixi/config.toml",
        "poetry": "/etc/profile.d/devpi-mirror-poetry.sh",
        "pipenv": "/etc/profile.d/devpi-mirror-pipenv.sh",
    }


def test_places_on_macos(tmp_path):
    home = str(tmp_path)
    support = home + "/Library/Application Support"
    found = paths(pip_config.user_places(home, home + "/xdg", "Darwin"))
    assert found == {
        "pip": home + "/.config/pip/pip.conf",
        "uv": home + "/xdg/uv/uv.toml",
        "poetry": support + "/pypoetry/config.toml",
        "pdm": support + "/pdm/config.toml",
        "pixi": home + "/xdg/pixi/config.toml",
    }
    Path(support, "pip").mkdir(parents=True)
    assert paths(pip_config.user_places(home, home, "Darwin"))["pip"] == support + "/pip/pip.conf"
    assert paths(pip_config.global_places("Darwin"))["pip"] == "/Library/Application Support/pip/pip.conf"
    assert "pipenv" not in paths(pip_config.global_places("Darwin"))


@pytest.fixture
def accounts(monkeypatch, tmp_path):
    """Return a function that adds an account with the UID of this process and a home directory of its own."""
    known = {}

    def add(name, home=True):
        path = tmp_path / name
        if home:
            path.mkdir()
        known[name] = pwd.struct_passwd((name, "x", os.geteuid(), os.getegid(), "", str(path), "/bin/bash"))
        return path / ".config" / "pip" / "pip.conf"

    monkeypatch.setattr(pwd, "getpwall", lambda: list(known.values()))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known[name])
    # These accounts exist in this test only.
    monkeypatch.setattr(os, "initgroups", lambda name, group: None)
    monkeypatch.setattr(_accounts, "_ENVIRONMENT_FILES", (".profile",))
    # The files of the whole machine are in a directory of the test.
    places = pip_config.global_places
    root = str(tmp_path / "root")

    def in_root(system):
        return [place._replace(path=root + place.path.replace(root, "")) for place in places(system)]

    monkeypatch.setattr(pip_config, "global_places", in_root)
    monkeypatch.setattr(pip_config, "GLOBAL_PIP", root + pip_config.GLOBAL_PIP)
    return add


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run_all(run_module, **kwargs):
    uid = os.geteuid()
    arguments = {
        "contents": {"pip": CONTENT},
        "find_users": True,
        "uid_min": uid,
        "uid_max": uid,
        "whole_host": True,
    }
    check_mode, diff = kwargs.pop("check_mode", False), kwargs.pop("diff", False)
    return run_module(pip_config, dict(arguments, **kwargs), check_mode=check_mode, diff=diff)


def actions(result):
    return [(one["name"], one["tool"], one["action"]) for one in result["users"]]


def test_all_users_in_one_call(run_module, accounts):
    files = [accounts("ada"), accounts("bob"), accounts("eve")]
    result = run_all(run_module, exclude=["eve"]).result
    assert actions(result) == [("ada", "pip", "created"), ("bob", "pip", "created")]
    assert [file.exists() for file in files] == [True, True, False]
    assert result["changed"]
    assert not run_all(run_module, exclude=["eve"]).result["changed"]
    assert actions(run_all(run_module, state="absent").result) == [("ada", "pip", "removed"), ("bob", "pip", "removed")]
    assert actions(run_all(run_module, state="absent").result) == []


def test_tools_are_added_and_removed(run_module, accounts, tmp_path):
    accounts("ada")
    contents = {"pip": CONTENT, "uv": UV, "pipenv": f"export PIPENV_PYPI_MIRROR={INDEX}\n"}
    result = run_all(run_module, contents=contents).result
    script = tmp_path / "root/etc/profile.d/devpi-mirror-pipenv.sh"
    assert actions(result) == [("ada", "pip", "created"), ("ada", "uv", "created"), ("all users", "pipenv", "created")]
    assert (tmp_path / "ada/.config/uv/uv.toml").read_text() == UV
    assert script.stat().st_mode & 0o777 == 0o644
    assert not run_all(run_module, contents=contents).result["changed"]
    run_all(run_module, whole_host=False)
    assert script.exists()
    assert not (tmp_path / "ada/.config/uv").exists()
    result = run_all(run_module).result
    assert actions(result) == [("ada", "pip", "unchanged"), ("all users", "pipenv", "removed")]
    assert not script.exists()


def test_directories_are_removed_with_their_last_file(run_module, accounts, tmp_path):
    accounts("ada")
    run_all(run_module)
    run_all(run_module, contents={"pip": CONTENT, "uv": UV})
    run_all(run_module, contents={"uv": UV})
    assert [path.name for path in (tmp_path / "ada/.config").iterdir()] == ["uv"]
    run_all(run_module, state="absent")
    assert list((tmp_path / "ada").iterdir()) == []


def test_change_of_the_scope(run_module, accounts, tmp_path):
    file = accounts("ada")
    run_all(run_module)
    result = run_all(run_module, scope="global").result
    assert actions(result) == [("ada", "pip", "removed"), ("all users", "pip", "created")]
    assert (tmp_path / "root/etc/pip.conf").read_text() == CONTENT
    assert not file.exists()
    assert not run_all(run_module, scope="global").result["changed"]
    assert actions(run_all(run_module, whole_host=False).result) == [("ada", "pip", "created")]
    assert actions(run_all(run_module).result) == [("ada", "pip", "unchanged"), ("all users", "pip", "removed")]


def test_file_of_a_user_that_takes_precedence_is_reported(run_module, accounts):
    file = accounts("ada")
    write(file, THEIRS)
    result = run_all(run_module, scope="global").result
    assert actions(result) == [("ada", "pip", "unchanged"), ("all users", "pip", "created")]
    assert result["users"][0]["message"] == f"{file} sets a different index-url; it takes precedence"


def test_overrides(run_module, accounts):
    ada, bob = accounts("ada"), accounts("bob")
    overrides = {
        "bob": {"global": {"timeout": 60, "Index_URL": None, "no-index": True}, "install": {"find-links": ["a", "b"]}}
    }
    run_all(run_module, overrides=overrides)
    assert ada.read_text() == CONTENT
    assert bob.read_text() == (
        "# Written by devpi.mirror.\n[global]\ntimeout = 60\nno-index = true\n\n[install]\nfind-links =\n    a\n    b\n"
    )
    assert not run_all(run_module, overrides=overrides).result["changed"]


def test_user_with_xdg_config_home(run_module, accounts, tmp_path):
    file, listed = accounts("ada"), accounts("bob")
    run_all(run_module)
    write(tmp_path / "ada/.profile", "export XDG_CONFIG_HOME=$HOME/.settings\n")
    result = run_all(run_module, config_homes={"bob": str(tmp_path / "bob/conf")}).result
    assert actions(result) == [(name, "pip", action) for name in ("ada", "bob") for action in ("created", "removed")]
    assert (tmp_path / "ada/.settings/pip/pip.conf").exists()
    assert (tmp_path / "bob/conf/pip/pip.conf").exists()
    assert not file.exists()
    assert not listed.exists()


RECORD = "ada/.local/state/devpi-mirror.json"


@pytest.mark.parametrize("theirs", [None, THEIRS])
def test_files_are_found_after_xdg_config_home_has_changed(run_module, accounts, tmp_path, theirs):
    accounts("ada")
    first, second = (tmp_path / "ada" / name / "pip/pip.conf" for name in (".first", ".second"))
    if theirs:
        write(first, theirs)
    for folder in (".first", ".second"):
        write(tmp_path / "ada/.profile", f"export XDG_CONFIG_HOME=$HOME/{folder}\n")
        run_all(run_module)
    assert (first.read_text() if theirs else first.exists()) == (theirs or False)
    assert second.read_text() == CONTENT
    assert not run_all(run_module).result["changed"]
    assert (tmp_path / RECORD).stat().st_mode & 0o777 == 0o600
    # The next change is noticed by the removal only.
    (tmp_path / "ada/.profile").unlink()
    assert actions(run_all(run_module, state="absent").result) == [("ada", "pip", "removed")]
    assert sorted(path.name for path in (tmp_path / "ada").iterdir()) == ([".first"] if theirs else [])
    assert [path.name for path in (tmp_path / "ada").rglob("*") if path.is_file()] == (["pip.conf"] if theirs else [])


def test_check_mode_records_no_directory(run_module, accounts, tmp_path):
    accounts("ada")
    homes = {"ada": str(tmp_path / "ada/conf")}
    assert actions(run_all(run_module, config_homes=homes, check_mode=True).result) == [("ada", "pip", "created")]
    assert list((tmp_path / "ada").iterdir()) == []
    run_all(run_module, config_homes=homes)
    record = (tmp_path / RECORD).read_text()
    result = run_all(run_module, config_homes={"ada": str(tmp_path / "ada/other")}, check_mode=True).result
    assert actions(result) == [("ada", "pip", "created"), ("ada", "pip", "removed")]
    assert (tmp_path / RECORD).read_text() == record


def test_directory_is_recorded_until_its_files_are_restored(run_module, accounts, tmp_path):
    accounts("ada")
    file = tmp_path / "ada/conf/pip/pip.conf"
    run_all(run_module, config_homes={"ada": str(tmp_path / "ada/conf")})
    write(file, "[broken\n")
    assert actions(run_all(run_module, state="absent", errors="warn").result) == [("ada", "pip", "failed")]
    assert file.read_text() == "[broken\n"
    write(file, CONTENT)
    assert actions(run_all(run_module, state="absent").result) == [("ada", "pip", "removed")]
    assert list((tmp_path / "ada").iterdir()) == []


def states(home):
    """Return what changes if a file below this directory is written, created or removed."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [home, *home.rglob("*")]}


@pytest.mark.parametrize(("legacy", "folder"), [("report", "conf"), ("use", ".pip"), ("migrate", "conf")])
def test_directory_without_changes_is_not_recorded(run_module, accounts, tmp_path, legacy, folder):
    accounts("ada")
    write(tmp_path / "ada/.profile", "export XDG_CONFIG_HOME=$HOME/conf\n")
    write(tmp_path / "ada" / folder / ("pip/pip.conf" if folder == "conf" else "pip.conf"), CONTENT)
    before = states(tmp_path / "ada")
    assert actions(run_all(run_module, legacy=legacy).result) == [("ada", "pip", "unchanged")]
    assert states(tmp_path / "ada") == before


def test_directory_of_configured_files_is_recorded_again(run_module, accounts, tmp_path):
    accounts("ada")
    homes = {"ada": str(tmp_path / "ada/conf")}
    run_all(run_module, config_homes=homes)
    record = (tmp_path / RECORD).read_text()
    before = states(tmp_path / "ada")
    assert not run_all(run_module, config_homes=homes).result["changed"]
    assert states(tmp_path / "ada") == before
    (tmp_path / RECORD).unlink()
    assert not run_all(run_module, config_homes=homes).result["changed"]
    assert json.loads((tmp_path / RECORD).read_text())["config_homes"] == json.loads(record)["config_homes"]


@pytest.fixture
def unwritable(monkeypatch):
    """Return a function that makes a directory unwritable, also for root."""

    def deny(folder):
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != str(folder) and access(path, mode))

    return deny


@pytest.mark.parametrize("legacy", ["report", "use"])
def test_user_whose_directory_cannot_be_recorded_is_configured(run_module, accounts, tmp_path, unwritable, legacy):
    accounts("ada")
    (tmp_path / "ada/.local").mkdir()
    unwritable(tmp_path / "ada/.local")
    for action in ("created", "unchanged"):
        ended = run_all(run_module, config_homes={"ada": str(tmp_path / "ada/conf")}, legacy=legacy)
        assert not ended.failed
        expected = [("ada", "pip", action)] + ([] if legacy == "use" else [("ada", "", "unchanged")])
        assert actions(ended.result) == expected
    assert (tmp_path / "ada" / (".pip/pip.conf" if legacy == "use" else "conf/pip/pip.conf")).read_text() == CONTENT
    assert legacy == "use" or ended.result["users"][1]["message"] == (
        f"{tmp_path / RECORD} could not be written: the files in {tmp_path / 'ada/conf'} are not found after "
        f"XDG_CONFIG_HOME has changed: {tmp_path / 'ada/.local'} is not writable by its user: change its owner or mode, "
        "or exclude this user"
    )


def test_user_whose_record_of_directories_is_inaccessible_is_configured(run_module, accounts, tmp_path):
    accounts("ada")
    write(tmp_path / "ada/.local", "")
    result = run_all(run_module, config_homes={"ada": str(tmp_path / "ada/conf")}).result
    assert actions(result) == [("ada", "pip", "created"), ("ada", "", "unchanged")]
    assert result["users"][1]["message"] == (
        f"{tmp_path / RECORD} could not be read: files in an earlier XDG_CONFIG_HOME are not found: "
        f"{tmp_path / RECORD}: Not a directory"
    )


def test_results_are_returned_if_the_record_of_directories_cannot_be_removed(
    run_module, accounts, tmp_path, unwritable
):
    accounts("ada")
    run_all(run_module, config_homes={"ada": str(tmp_path / "ada/conf")})
    unwritable(tmp_path / "ada/.local/state")
    ended = run_all(run_module, state="absent", diff=True)
    assert ended.failed
    assert actions(ended.result) == [("ada", "pip", "removed"), ("ada", "", "failed")]
    assert ended.result["changed"]
    assert [one["before"] for one in ended.result["diff"]] == [CONTENT]
    assert f"{tmp_path / RECORD} could not be written" in ended.result["msg"]


@pytest.mark.parametrize("is_link", [False, True])
def test_directory_that_is_not_mounted_remains_recorded(run_module, accounts, tmp_path, is_link):
    accounts("ada")
    mounted, unmounted = tmp_path / "mounted", tmp_path / "unmounted"
    mounted.mkdir()
    config = tmp_path / "ada/conf" if is_link else mounted / "conf"
    if is_link:
        config.symlink_to(mounted)
    run_all(run_module, config_homes={"ada": str(config)})
    record = (tmp_path / RECORD).read_text()
    mounted.rename(unmounted)
    run_all(run_module, state="absent")
    assert (tmp_path / RECORD).read_text() == record
    unmounted.rename(mounted)
    assert actions(run_all(run_module, state="absent").result) == [("ada", "pip", "removed")]
    assert not (tmp_path / "ada/.local").exists()


@pytest.mark.parametrize(
    "record", ["", "[]", "{}", '{"version": 1, "config_homes": ["x"], "folders": []}', "[" * 100_000]
)
def test_invalid_record_of_directories(run_module, accounts, tmp_path, record):
    file = accounts("ada")
    write(tmp_path / RECORD, record)
    ended = run_all(run_module)
    assert ended.failed
    assert f"ada: {tmp_path / RECORD} is not a valid record: restore or remove it" in ended.result["msg"]
    assert not file.exists()


@pytest.mark.parametrize("links", [{".config": ".settings"}, {".settings": ".config"}])
def test_linked_directories_of_settings(run_module, accounts, tmp_path, links):
    accounts("ada")
    for name, target in links.items():
        (tmp_path / "ada" / target).mkdir()
        (tmp_path / "ada" / name).symlink_to(target)
    write(tmp_path / "ada/.profile", "export XDG_CONFIG_HOME=$HOME/.settings\n")
    assert actions(run_all(run_module).result) == [("ada", "pip", "created")]
    assert (tmp_path / "ada/.settings/pip/pip.conf").read_text() == CONTENT
    assert not run_all(run_module).result["changed"]
    assert actions(run_all(run_module, state="absent").result) == [("ada", "pip", "removed")]
    assert sorted(path.name for path in (tmp_path / "ada").rglob("*")) == [".config", ".profile", ".settings"]


def test_original_of_a_file_with_two_links_is_restored(run_module, accounts, tmp_path):
    accounts("ada")
    dotfile = tmp_path / "ada/dotfiles/pip.conf"
    write(dotfile, THEIRS)
    for folder in (".first", ".second"):
        (tmp_path / "ada" / folder / "pip").mkdir(parents=True)
        (tmp_path / "ada" / folder / "pip/pip.conf").symlink_to(dotfile)
    run_all(run_module, config_homes={"ada": str(tmp_path / "ada/.first")})
    other = CONTENT.replace("localhost", "127.0.0.1")
    arguments = {"contents": {"pip": other}, "config_homes": {"ada": str(tmp_path / "ada/.second")}}
    run_all(run_module, **arguments)
    assert "127.0.0.1" in dotfile.read_text()
    assert not run_all(run_module, **arguments).result["changed"]
    run_all(run_module, state="absent")
    assert dotfile.read_text() == THEIRS
    assert len([path for path in (tmp_path / "ada").rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize("link", [".pip", ".pip/pip.conf"])
def test_legacy_file_that_is_a_link_to_the_current_one_is_not_migrated(run_module, accounts, tmp_path, link):
    file = accounts("ada")
    write(file, THEIRS)
    path = tmp_path / "ada" / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(file if link.endswith("conf") else file.parent)
    assert actions(run_all(run_module, legacy="migrate").result) == [("ada", "pip", "updated")]
    assert INDEX in file.read_text()
    assert not run_all(run_module, legacy="migrate").result["changed"]
    run_all(run_module, state="absent")
    assert file.read_text() == THEIRS
    assert path.is_symlink()


def test_pip_gets_a_directory_of_its_own_on_macos(run_module, accounts, tmp_path, monkeypatch):
    file = accounts("ada")
    monkeypatch.setattr(pip_config.platform, "system", lambda: "Darwin")
    run_all(run_module)
    support = tmp_path / "ada/Library/Application Support/pip/pip.conf"
    support.parent.mkdir(parents=True)
    result = run_all(run_module).result
    assert [(one["path"], one["action"]) for one in result["users"]] == [
        (str(support), "created"),
        (str(file), "removed"),
    ]


def test_legacy_file_that_contradicts_is_reported(run_module, accounts, tmp_path):
    accounts("ada")
    legacy = tmp_path / "ada/.pip/pip.conf"
    write(legacy, THEIRS)
    assert (
        run_all(run_module).result["users"][0]["message"]
        == f"{legacy} sets a different index-url; the setting of the mirror takes precedence"
    )
    assert legacy.read_text() == THEIRS


@pytest.mark.parametrize("today", [None, "[global]\ntimeout = 5\n"])
def test_legacy_file_is_migrated_and_restored(run_module, accounts, tmp_path, today):
    file = accounts("ada")
    legacy = tmp_path / "ada/.pip/pip.conf"
    write(legacy, THEIRS + "[install]\nuser = true\n")
    if today:
        write(file, today)
    result = run_all(run_module, legacy="migrate").result
    assert [action for _name, _tool, action in actions(result)] == ["updated" if today else "created", "removed"]
    text = file.read_text()
    assert ("timeout = 5" if today else "timeout = 20") in text
    assert INDEX in text
    assert "user = true" in text
    assert not legacy.exists()
    assert not run_all(run_module, legacy="migrate").result["changed"]
    run_all(run_module, state="absent")
    assert legacy.read_text() == THEIRS + "[install]\nuser = true\n"
    assert (file.read_text() if today else file.exists()) == (today or False)


def test_a_used_legacy_file_is_removed_by_a_migration(run_module, accounts, tmp_path):
    file = accounts("ada")
    run_all(run_module, legacy="use")
    assert actions(run_all(run_module, legacy="migrate").result) == [
        ("ada", "pip", "created"),
        ("ada", "pip", "removed"),
    ]
    assert file.exists()
    assert not (tmp_path / "ada/.pip").exists()
    assert not run_all(run_module, legacy="migrate").result["changed"]


def test_legacy_file_is_used(run_module, accounts, tmp_path):
    file = accounts("ada")
    legacy = tmp_path / "ada/.pip/pip.conf"
    run_all(run_module)
    result = run_all(run_module, legacy="use").result
    assert [(one["path"], one["action"]) for one in result["users"]] == [
        (str(legacy), "created"),
        (str(file), "removed"),
    ]
    write(file, THEIRS)
    result = run_all(run_module, legacy="use").result
    assert result["users"][0]["message"] == f"{file} sets a different index-url; it takes precedence in pip 6 and later"
    run_all(run_module, state="absent")
    assert not legacy.exists()


@pytest.mark.parametrize("place", [".config/pip/pip.conf", ".pip/pip.conf", "../root/etc/pip.conf"])
def test_private_index_is_not_combined_with_a_public_one(run_module, accounts, tmp_path, place):
    accounts("ada")
    bob = accounts("bob")
    theirs = "[global]\nextra-index-url = https://private.example.com/simple\n"
    write(tmp_path / "ada" / place, theirs)
    content = CONTENT + "extra-index-url = https://public.example.com/simple\n"
    ended = run_all(run_module, contents={"pip": content}, exclusive=["extra-index-url"])
    assert ended.failed
    assert "an attacker can publish a package under a private package's name" in str(ended.result["msg"])
    assert (tmp_path / "ada" / place).read_text() == theirs
    assert bob.exists() is not place.startswith("..")
    again = run_all(run_module, contents={"pip": content}, exclude=["ada"], exclusive=["extra-index-url"])
    assert not again.result["changed"]
    # The pip of bob also reads the file of the whole machine. The settings in his own file are managed.
    assert again.failed is place.startswith("..")
    assert actions(again.result) == [("bob", "pip", "failed" if place.startswith("..") else "unchanged")]


@pytest.mark.parametrize("errors", ["fail", "warn"])
def test_failure_of_one_user_does_not_affect_others(run_module, accounts, errors):
    good, bad = accounts("ada"), accounts("bob")
    last = accounts("zoe")
    write(bad, "[broken\n")
    ended = run_all(run_module, errors=errors)
    assert ended.failed is (errors == "fail")
    assert ended.result["changed"]
    assert ("bob", "pip", "failed") in actions(ended.result)
    if ended.failed:
        assert f"Could not configure: bob: {bad} was not changed" in ended.result["msg"]
    assert good.exists()
    assert last.exists()
    assert bad.read_text() == "[broken\n"


def test_unknown_user_is_rejected_before_any_change(run_module, accounts):
    file = accounts("ada")
    ended = run_all(run_module, users=["ghost"])
    assert ended.failed
    assert "user 'ghost' does not exist" in ended.result["msg"]
    assert not file.exists()


@pytest.fixture
def warnings(monkeypatch):
    """Return the list of the warnings of a module."""
    found = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda self, warning: found.append(warning))
    return found


def test_users_with_settings_who_do_not_exist_are_reported(run_module, accounts, warnings):
    accounts("ada")
    ended = run_all(run_module, overrides={"ada": {}, "ghost": {"global": {"timeout": 9}}}, exclude=["other"])
    assert actions(ended.result) == [("ada", "pip", "created")]
    assert warnings == [
        "pip_client_user_settings: user 'ghost' does not exist on this host, so its settings are not used"
    ]


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("selection", [{"exclude": ["bob"]}, {"find_users": False, "users": ["ada"]}])
def test_users_who_are_no_longer_selected_are_restored(run_module, accounts, tmp_path, warnings, selection, state):
    ada, bob = accounts("ada"), accounts("bob")
    write(bob, THEIRS)
    before = sorted((tmp_path / "bob").rglob("*"))
    contents = {"pip": CONTENT, "uv": UV}
    run_all(run_module, contents=contents)
    configured = states(tmp_path / "bob")
    arguments = dict(selection, contents=contents, state=state)
    check = run_all(run_module, check_mode=True, diff=True, **arguments).result
    assert states(tmp_path / "bob") == configured
    assert [one["after"] for one in check["diff"]][-2:] == [THEIRS, ""]
    result = run_all(run_module, **arguments).result
    assert result["users"] == check["users"]
    assert actions(result)[2:] == [("bob", "pip", "restored"), ("bob", "uv", "removed")]
    assert bob.read_text() == THEIRS
    assert sorted((tmp_path / "bob").rglob("*")) == before
    assert ada.exists() is (state == "present")
    assert not run_all(run_module, **arguments).result["changed"]
    assert warnings == []


def test_files_in_another_directory_are_restored_if_their_user_is_no_longer_selected(run_module, accounts, tmp_path):
    accounts("ada")
    run_all(run_module, config_homes={"ada": str(tmp_path / "ada/conf")})
    assert actions(run_all(run_module, exclude=["ada"]).result) == [("ada", "pip", "removed")]
    assert list((tmp_path / "ada").iterdir()) == []


def test_excluded_user_whom_the_host_does_not_list_is_restored(run_module, accounts, monkeypatch):
    file = accounts("ada")
    run_all(run_module)
    monkeypatch.setattr(pwd, "getpwall", list)
    assert actions(run_all(run_module, users=["ada"]).result) == [("ada", "pip", "unchanged")]
    assert actions(run_all(run_module, exclude=["ada"]).result) == [("ada", "pip", "removed")]
    assert not file.exists()


def test_other_users_are_not_restored_by_a_call_for_a_part_of_the_host(run_module, accounts):
    accounts("ada"), accounts("bob")
    run_all(run_module)
    result = run_all(run_module, find_users=False, users=["ada"], whole_host=False).result
    assert actions(result) == [("ada", "pip", "unchanged")]


def test_files_of_an_account_with_the_same_home_are_not_restored(run_module, accounts, monkeypatch):
    accounts("ada")
    ada = pwd.getpwnam("ada")
    alias = pwd.struct_passwd(("alias", *ada[1:]))
    monkeypatch.setattr(pwd, "getpwall", lambda: [alias, ada])
    for action in ("created", "unchanged"):
        assert actions(run_all(run_module, exclude=["alias"]).result) == [("ada", "pip", action)]


def test_no_process_is_started_for_other_users_without_configured_files(run_module, accounts, monkeypatch):
    accounts("ada"), accounts("bob"), accounts("eve", home=False)
    calls = []

    def run_as_all(users, function, *timeout):
        calls.append([user.pw_name for user in users])
        return [function(user) for user in users]

    monkeypatch.setattr(pip_config, "run_as_all", run_as_all)
    run_all(run_module, find_users=False, users=["ada"])
    assert calls == [["ada"], [pwd.getpwuid(os.geteuid()).pw_name], []]


def test_other_user_without_access_to_the_own_home_has_no_results(run_module, accounts, monkeypatch, warnings):
    accounts("ada")
    # As of a home directory that root can't read.
    monkeypatch.setattr(pip_config, "can_exist", lambda path: True)
    ended = run_all(run_module, exclude=["ada"])
    assert actions(ended.result) == []
    assert not ended.failed
    assert warnings == []


def test_error_of_a_user_who_is_not_selected_is_a_warning(run_module, accounts, warnings):
    accounts("ada")
    bob = accounts("bob")
    run_all(run_module)
    write(bob, "[broken\n")
    ended = run_all(run_module, exclude=["bob"])
    assert not ended.failed
    assert not ended.result["changed"]
    assert actions(ended.result) == [("ada", "pip", "unchanged"), ("bob", "pip", "failed")]
    assert len(warnings) == 1
    assert f"bob: could not restore all files of this user, who is not selected: {bob} was not changed" in warnings[0]
    assert bob.read_text() == "[broken\n"


@pytest.mark.parametrize(
    ("function", "timeout"), [("can_exist", "PROBE_TIMEOUT"), ("configure_user", "RESTORE_TIMEOUT")]
)
def test_home_of_another_user_that_hangs_is_a_warning(run_module, accounts, monkeypatch, warnings, function, timeout):
    accounts("ada"), accounts("bob")
    file = accounts("eve")
    run_all(run_module)
    original = getattr(pip_config, function)

    def hang(subject, *arguments):
        if "bob" in str(subject):
            time.sleep(60)
        return original(subject, *arguments)

    monkeypatch.setattr(pip_config, function, hang)
    monkeypatch.setattr(pip_config, timeout, 1.0)
    started = time.monotonic()
    ended = run_all(run_module, find_users=False, users=["ada"])
    assert time.monotonic() - started < 30
    assert not ended.failed
    assert sorted(actions(ended.result)) == [
        ("ada", "pip", "unchanged"),
        ("bob", "", "failed"),
        ("eve", "pip", "removed"),
    ]
    assert len(warnings) == 1
    assert warnings[0].startswith("bob: could not restore all files of this user, who is not selected: ")
    assert not file.exists()


def test_missing_home_directory_of_a_named_user(run_module, accounts):
    accounts("ada"), accounts("bob", home=False)
    assert actions(run_all(run_module).result) == [("ada", "pip", "created")]
    ended = run_all(run_module, users=["bob"])
    assert "bob: the home directory " in ended.result["msg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contents": {}}, "contents: required"),
        ({"contents": {"pip": "index-url = x\n"}}, "contents: the settings of pip are invalid: "),
        ({"contents": {"uv": "[pip\n"}}, "contents: the settings of uv are invalid: "),
        ({"contents": {"npm": ""}}, "contents: npm is not supported on this system"),
        ({"overrides": {"ada": {"timeout": 5}}}, "overrides: the settings of ada have no sections"),
        ({"config_homes": {"ada": "conf"}}, "config_homes: the path of ada is not absolute"),
        ({"contents": {"pip": CONTENT.replace("//", "//ada:secret@")}, "scope": "global"}, "contain a password"),
        ({"contents": {"pipenv": "export X=http://ada:secret@localhost/\n"}}, "contain a password"),
        ({"contents": {"netrc": "default\n"}}, "contents: netrc is not supported on this system"),
        ({"username": "ada"}, "username and password: set both or none"),
        ({"password": "secret"}, "username and password: set both or none"),
        ({"username": "ada", "password": "secret"}, "index_url: "),
        ({"index_url": INDEX, "username": "a:b", "password": "secret"}, "username: "),
        ({"index_url": INDEX, "username": "ada", "password": "s e"}, "password: "),
    ],
)
def test_invalid_options_are_rejected_before_any_change(run_module, accounts, arguments, message):
    file = accounts("ada")
    ended = run_all(run_module, **arguments)
    assert ended.failed
    assert message in ended.result["msg"]
    assert not file.exists()


def test_pipenv_is_not_supported_on_macos(run_module, accounts, monkeypatch):
    accounts("ada")
    monkeypatch.setattr(pip_config.platform, "system", lambda: "Darwin")
    ended = run_all(run_module, contents={"pipenv": "export X=1\n"})
    assert "pipenv is not supported on this system" in ended.result["msg"]


def test_diff_has_all_users_and_no_password(run_module, accounts):
    accounts("ada"), accounts("bob")
    result = run_all(run_module, check_mode=True, diff=True).result
    assert [one["after"] for one in result["diff"]] == [CONTENT, CONTENT]
    assert "ada" in result["diff"][0]["after_header"]
    secret = {"pip": CONTENT.replace("//", "//ada:secret@")}
    assert "secret" not in json.dumps(run_all(run_module, contents=secret, diff=True).result)


LOGIN = {"index_url": INDEX, "username": "reader", "password": "s3cret"}
ENTRY = "machine localhost login reader password s3cret\n"
OTHERS = "# mine\nmachine example.com login ada password hunter2\n\nmacdef init\ncd /pub\n\ndefault login x password hunter2\n"
REPLACED = OTHERS.replace("# mine\n", "machine localhost\n  login ada\n  password hunter2 # mine\n")


def files(folder):
    """Return content and mode of all files, by path."""
    return {path: (path.read_text(), path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("scope", ["user", "global"])
@pytest.mark.parametrize("theirs", [None, "", OTHERS, REPLACED, OTHERS.rstrip(), "# mine"])
def test_credentials_are_written_to_netrc_and_removed(run_module, accounts, tmp_path, scope, theirs):
    accounts("ada")
    file = tmp_path / "ada/.netrc"
    if theirs is not None:
        file.write_text(theirs)
        file.chmod(0o600)
    before = files(tmp_path)
    check = run_all(run_module, scope=scope, check_mode=True, diff=True, **LOGIN).result
    assert files(tmp_path) == before
    result = run_all(run_module, scope=scope, diff=True, **LOGIN).result
    assert result == check
    assert ("ada", "netrc", "created" if theirs is None else "updated") in actions(result)
    assert ENTRY.strip() in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "ada").glob(".netrc*"))
    pip = tmp_path / ("ada/.config/pip/pip.conf" if scope == "user" else "root/etc/pip.conf")
    assert pip.read_text() == CONTENT
    configured = states(tmp_path)
    assert not run_all(run_module, scope=scope, **LOGIN).result["changed"]
    assert states(tmp_path) == configured
    changed = run_all(run_module, scope=scope, **{**LOGIN, "password": "other"}).result
    assert [one["tool"] for one in changed["users"] if one["action"] != "unchanged"] == ["netrc"]
    assert "s3cret" not in file.read_text()
    moved = run_all(run_module, scope=scope, **{**LOGIN, "index_url": "https://devpi.example.com:8443/a/b/"}).result
    assert moved["changed"]
    assert "machine devpi.example.com login reader password s3cret\n" in file.read_text()
    assert "machine localhost login reader" not in file.read_text()
    result = run_all(run_module, scope=scope, index_url=INDEX).result
    assert ("ada", "netrc", "removed" if theirs is None else "restored") in actions(result)
    assert {path: before.get(path) for path in (tmp_path / "ada").glob(".netrc*")} == before
    run_all(run_module, scope=scope, **LOGIN)
    run_all(run_module, state="absent")
    assert files(tmp_path) == before


def test_no_password_is_in_the_output(run_module, accounts, tmp_path, monkeypatch):
    accounts("ada")
    file = tmp_path / "ada/.netrc"
    file.write_text(REPLACED)
    for arguments in (LOGIN, dict(LOGIN, password="0ther"), {"state": "absent"}):
        result = run_all(run_module, diff=True, **arguments).result
        assert result["diff"][0]["before_header"].startswith(str(tmp_path))
        text = json.dumps(result)
        assert not [secret for secret in ("hunter2", "s3cret", "0ther") if secret in text]
        assert "password ***" in text
    secrets = set()
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda self, message: secrets.update(self.no_log_values))
    run_all(run_module, overrides={"missing-user": {}}, **LOGIN)
    assert secrets == {"s3cret"}


def test_netrc_that_others_can_read_is_restricted_while_it_has_a_password(run_module, accounts, tmp_path):
    accounts("ada"), accounts("bob")
    for name, text in (("ada", "# mine\n"), ("bob", OTHERS)):
        (tmp_path / name / ".netrc").write_text(text)
        (tmp_path / name / ".netrc").chmod(0o644)
    run_all(run_module, **LOGIN)
    assert [(tmp_path / name / ".netrc").stat().st_mode & 0o777 for name in ("ada", "bob")] == [0o600, 0o600]
    run_all(run_module, state="absent")
    assert [(tmp_path / name / ".netrc").stat().st_mode & 0o777 for name in ("ada", "bob")] == [0o644, 0o600]
    (tmp_path / "bob/.netrc").chmod(0o644)
    assert actions(run_all(run_module).result) == [("ada", "pip", "created"), ("bob", "pip", "created")]
    assert (tmp_path / "bob/.netrc").stat().st_mode & 0o777 == 0o644


def test_linked_netrc_remains_a_link(run_module, accounts, tmp_path):
    accounts("ada")
    target = tmp_path / "ada/dotfiles/netrc"
    write(target, OTHERS)
    (tmp_path / "ada/.netrc").symlink_to("dotfiles/netrc")
    run_all(run_module, **LOGIN)
    assert ENTRY in target.read_text()
    run_all(run_module, state="absent")
    assert target.read_text() == OTHERS
    assert (tmp_path / "ada/.netrc").is_symlink()


def test_entries_that_the_user_adds_are_preserved(run_module, accounts, tmp_path):
    accounts("ada")
    file = tmp_path / "ada/.netrc"
    file.write_text(REPLACED)
    run_all(run_module, **LOGIN)
    added = "machine other.example.com login ada password hunter2\n"
    file.write_text(added + file.read_text())
    run_all(run_module, **{**LOGIN, "password": "other"})
    assert file.read_text().startswith(added)
    run_all(run_module, state="absent")
    assert file.read_text() == added + REPLACED


def test_netrc_of_users_who_are_no_longer_selected_is_restored(run_module, accounts, tmp_path):
    accounts("ada"), accounts("bob")
    (tmp_path / "bob/.netrc").write_text(OTHERS)
    run_all(run_module, scope="global", **LOGIN)
    result = run_all(run_module, scope="global", exclude=["bob"], **LOGIN).result
    assert actions(result)[1:] == [("bob", "netrc", "restored"), ("all users", "pip", "unchanged")]
    assert [path.name for path in (tmp_path / "bob").iterdir()] == [".netrc"]
    assert (tmp_path / "ada/.netrc").read_text() == ENTRY


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ("hunter2 is not a keyword\n", "could not parse line 1"),
        ("machine localhost login a password hunter2\n" * 2, "several entries for localhost: remove all but one"),
    ],
)
def test_netrc_that_can_not_be_edited_is_reported(run_module, accounts, tmp_path, theirs, message):
    pip = accounts("ada")
    file = tmp_path / "ada/.netrc"
    file.write_text(theirs)
    ended = run_all(run_module, **LOGIN)
    assert ended.failed
    assert f"ada: {file} was not changed: " in ended.result["msg"]
    assert message in ended.result["msg"]
    assert "hunter2" not in json.dumps(ended.result)
    assert file.read_text() == theirs
    assert pip.read_text() == CONTENT
