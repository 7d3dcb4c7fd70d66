# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Select the users of a host, and find the directories of their settings.

Private to the collection.
"""

from __future__ import annotations

import os
import pwd
import re
from typing import Any

from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError
from ansible_collections.devpi.mirror.plugins.module_utils._host import find_account
from ansible_collections.devpi.mirror.plugins.module_utils._user_file import read

# Programs that accounts without a login have as their shell.
NO_LOGIN = frozenset(["", "nologin", "false", "true", "sync", "halt", "shutdown", "git-shell"])
# The files in which users and administrators set environment variables. Relative paths are in the home directory.
_ENVIRONMENT_FILES = (
    "/etc/environment",
    ".config/environment.d",
    ".pam_environment",
    ".profile",
    ".bash_profile",
    ".bash_login",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
)
_XDG = re.compile(
    r"^[ \t]*(?:export[ \t]+|typeset[ \t]+-x[ \t]+)?XDG_CONFIG_HOME[ \t]*(?:DEFAULT)?=[ \t]*"
    r"""(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s;#]*)""",
    re.MULTILINE,
)
_DEFAULT_VALUE = re.compile(r"\A\$\{XDG_CONFIG_HOME:?-((?:[^{}]|\$\{HOME\})*)\}")
_HOME = re.compile(r"(?:\$HOME|\$\{HOME\}|@\{HOME\}|~)(?=/|$)")


def parse_uid_range(login_defs: str, system: str) -> tuple[int, int]:
    """Return the lowest and the highest UID of ordinary users, from the text of login.defs(5), or the defaults of the system.

    ``system`` is what ``platform.system()`` returns.
    """
    values = {"UID_MIN": 501 if system == "Darwin" else 1000, "UID_MAX": 60000}
    for name, value in re.findall(r"^[ \t]*(UID_MIN|UID_MAX)[ \t]+([0-9]+)", login_defs, re.MULTILINE):
        values[name] = int(value)
    return values["UID_MIN"], values["UID_MAX"]


def regular_uids(params: dict[str, Any], system: str) -> tuple[int, int] | None:
    """Return the range of UIDs that the options ``find_users``, ``uid_min`` and ``uid_max`` select, None for no user."""
    if not params["find_users"]:
        return None
    low, high = parse_uid_range(read("/etc/login.defs") or "", system)
    return (
        low if params["uid_min"] is None else params["uid_min"],
        high if params["uid_max"] is None else params["uid_max"],
    )


def select_users(uids: tuple[int, int] | None, names: list[str], exclude: list[str]) -> list[pwd.struct_passwd]:
    """Return accounts by name: those with these names and, with ``uids``, all with a UID in that range and a login shell.

    Raises ValueError if a named account does not exist.
    """
    selected: dict[str, pwd.struct_passwd] = {}
    if uids:
        for user in pwd.getpwall():
            if uids[0] <= user.pw_uid <= uids[1] and os.path.basename(user.pw_shell) not in NO_LOGIN:
                selected[user.pw_name] = user
    for name in names:
        named = find_account(name)
        if named is None:
            raise ValueError(f"user {name!r} does not exist on this host: correct the name or create the user")
        selected[named.pw_name] = named
    return [selected[name] for name in sorted(selected) if name not in exclude]


def other_accounts(selected: list[pwd.struct_passwd], names: list[str]) -> list[pwd.struct_passwd]:
    """Return all accounts of the host that are not selected. ``names`` are of accounts that the host may not list (as SSSD)."""
    selected_names = {user.pw_name for user in selected}
    # An account can share the home directory of a selected one.
    homes = {os.path.normpath(user.pw_dir) for user in selected}
    others: dict[tuple[int, str], pwd.struct_passwd] = {}
    for user in [*pwd.getpwall(), *filter(None, map(find_account, names))]:
        home = os.path.normpath(user.pw_dir)
        if user.pw_name not in selected_names and home not in homes:
            others.setdefault((user.pw_uid, home), user)
    return list(others.values())


def config_home(home: str) -> tuple[str, str]:
    """Return the directory of a user's settings, and a warning if it could not be determined. Runs with that user's privileges.

    It is ``~/.config``, or the value of XDG_CONFIG_HOME that the user's own files set (XDG base directory specification).
    """
    default = os.path.join(home, ".config")
    found = {value for path in _environment_files(home) for value in _XDG.findall(_text(path))}
    if not found:
        return default, ""
    values = {_DEFAULT_VALUE.sub(r"\1", value.strip("\"'")) for value in found}
    folders = {os.path.normpath(_HOME.sub(lambda _match: home, value)) for value in values}
    folder = folders.pop()
    if folders or not os.path.isabs(folder) or re.search(r"[$`*\\]", folder):
        return (
            default,
            "could not determine the value of XDG_CONFIG_HOME: set the option config_homes (variable pip_client_config_homes)",
        )
    return folder, ""


def _environment_files(home: str) -> list[str]:
    paths: list[str] = []
    for name in _ENVIRONMENT_FILES:
        path = os.path.join(home, name)
        paths += [os.path.join(path, entry) for entry in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
    return paths


def _text(path: str) -> str:
    try:
        return read(path) or ""
    except (OperationError, OSError):
        return ""
