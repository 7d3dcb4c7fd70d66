# SPDX-License-Identifier: GPL-3.0-or-later
"""Users' configuration files of every kind: which are edited, what is preserved, and which can't be edited."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import HOST, ON_HOST, on_host
from plays import run_as_json
from user_commands import INDEX, PYTHON, exists, read_file, read_lines, run_as

ACCOUNTS = yaml.safe_load((Path(__file__).parents[1] / "vars" / "main.yml").read_text())["accounts"]
# Users one of whose files can't be edited, and what the message about each names.
FAILING = {
    "broken": ["/home/broken/.config/pip/pip.conf"],
    "pipe": ["/home/pipe/.config/pip/pip.conf"],
    "to_system": ["/home/to_system/.config/pip"],
    "to_secret": ["/home/to_secret/.config/pip/pip.conf", "Permission denied"],
    "to_other": ["/home/to_other/.config/pip/pip.conf", "0"],
    "rooted": ["/home/rooted/.config/pip/pip.conf", "0"],
    "locked": ["/home/locked/.config"],
    "inline": ["/home/inline/.config/uv/uv.toml"],
}
# The file of "inline" that can't be edited is that of uv.
PIP_USERS = sorted({*ACCOUNTS, "ada", "bob", "inline"} - (FAILING.keys() - {"inline"}) - {"excluded"})
PIP_CONTENT = f"[global]\nindex-url = {INDEX}\n"
UV_CONTENT = f'[pip]\nindex-url = "{INDEX}"\n'
# A folder of root with a file in it, to which users have links.
PROTECTED = {"pip.conf": "[global]\ntimeout = 1\n"}
# Replaces the user's folder and file with links to those of root, continuously.
SWITCH_LINKS = """
cd
mkdir -p .config
while :; do
    rm -rf .config/pip; mkdir .config/pip; ln -s /etc/precious/pip.conf .config/pip/pip.conf
    rm -rf .config/pip; ln -s /etc/precious .config/pip
    rm -f .config/pip
done
"""


def run_pip_config(folder: Path, task: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Run the module on the test host, with keywords of a task, and return its result."""
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"devpi.mirror.pip_config": arguments, **task}]}
    playbook = folder / "playbook.yml"
    playbook.write_text(json.dumps([play]))
    report = run_as_json(str(playbook))
    result: dict[str, Any] = report["plays"][0]["tasks"][0]["hosts"][HOST]
    return result


def read_protected() -> dict[str, str]:
    names = on_host("ls /etc/precious").split()
    return {name: read_file(f"/etc/precious/{name}") for name in names}


@pytest.mark.parametrize("user", PIP_USERS)
def test_pip_uses_the_mirror(user: str) -> None:
    assert run_as(user, f"{PYTHON} -m pip config get global.index-url").strip() == INDEX


def test_windows_line_endings_and_spacing_are_preserved() -> None:
    lines = read_lines("/home/crlf/.config/pip/pip.conf")
    assert "timeout = 9\r" in lines
    assert f"index-url={INDEX}\r" in lines


def test_a_linked_file_is_edited_and_remains_a_link() -> None:
    on_host("test -L /home/linked/.config/pip/pip.conf")
    assert f"index-url = {INDEX}" in read_lines("/home/linked/dotfiles/pip.conf")


def test_a_file_in_a_linked_folder_is_edited_and_the_folder_remains_a_link() -> None:
    on_host("test -L /home/stowed/.config")
    lines = read_lines("/home/stowed/dotfiles/config/uv/uv.toml")
    assert f'index-url = "{INDEX}"' in lines
    assert "# mine" in lines


def test_the_configuration_folder_in_the_environment_is_used() -> None:
    assert f"index-url = {INDEX}" in read_lines("/home/xdg/.settings/pip/pip.conf")
    assert not exists("/home/xdg/.config")


def test_owner_group_and_mode_are_preserved() -> None:
    assert on_host("stat -c '%U %G %a' /home/shared/.config/pip/pip.conf").strip() == "shared devs 664"


def test_settings_of_one_user_are_in_the_file_of_that_user_alone() -> None:
    assert "timeout = 60" in read_lines("/home/dev/.config/pip/pip.conf")
    assert "timeout" not in read_file("/home/listed/.config/pip/pip.conf")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pypoetry/config.toml", "in-project = true # mine"),
        ("pypoetry/config.toml", f'url = "{INDEX}"'),
        ("pdm/config.toml", f'url = "{INDEX}"'),
        ("pixi/config.toml", f'index-url = "{INDEX}"'),
        ("uv/uv.toml", 'url = "https://example.com/simple"'),
        ("uv/uv.toml", f'index-url = "{INDEX}"'),
    ],
)
def test_other_tools_use_the_mirror_and_keep_their_settings(path: str, line: str) -> None:
    assert line in read_lines(f"/home/tooled/.config/{path}")


def test_excluded_users_and_service_accounts_get_no_files() -> None:
    assert not exists("/home/excluded/.config/uv")
    assert not exists("/home/service/.config")


def test_files_of_root_that_users_link_to_are_unchanged() -> None:
    assert read_protected() == PROTECTED


@contextmanager
def switching_links() -> Iterator[None]:
    """Let the user "racer" change links without pause."""
    with subprocess.Popen([*ON_HOST, "runuser", "-u", "racer", "--", "sh", "-c", SWITCH_LINKS]):
        try:
            yield
        finally:
            on_host("pkill -KILL -u racer; while pgrep -u racer; do sleep 0.1; done; rm -rf /home/racer/.config")


def test_a_user_who_changes_links_meanwhile_can_not_redirect_writes(tmp_path: Path) -> None:
    with switching_links():
        result = run_pip_config(
            tmp_path, {"loop": list(range(15))}, contents={"pip": PIP_CONTENT}, users=["racer"], errors="warn"
        )
    assert len(result["results"]) == 15
    assert read_protected() == PROTECTED


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Return what the module reports of all users' files in check mode, with ``errors: fail``."""
    result = run_pip_config(
        tmp_path_factory.mktemp("outcomes"),
        {"check_mode": True},
        contents={"pip": PIP_CONTENT, "uv": UV_CONTENT},
        find_users=True,
        exclude=["excluded", "racer"],
    )
    assert result["failed"]
    users: list[dict[str, str]] = result["users"]
    return users


@pytest.mark.parametrize("user", FAILING)
def test_the_message_about_a_file_that_can_not_be_edited_names_it(outcomes: list[dict[str, str]], user: str) -> None:
    message = next(one["message"] for one in outcomes if one["name"] == user and one["action"] == "failed")
    assert [text for text in FAILING[user] if text not in message] == [], message


def test_all_other_users_are_configured(outcomes: list[dict[str, str]]) -> None:
    assert {one["name"] for one in outcomes if one["action"] == "failed"} == FAILING.keys()


def test_a_legacy_file_with_another_index_is_reported(outcomes: list[dict[str, str]]) -> None:
    message = next(one["message"] for one in outcomes if one["name"] == "legacy")
    assert "/home/legacy/.pip/pip.conf" in message
    assert "index-url" in message
