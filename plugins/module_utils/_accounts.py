# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose settings there are on a host, and in which folder of their homes.

Private to the collection.
"""

from __future__ import annotations

import os
import pwd
import re
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed
from ansible_collections.devpi.mirror.plugins.module_utils._user_file import read

NO_LOGIN = frozenset(["", "nologin", "false", "true", "sync", "halt", "shutdown", "git-shell"])
# Where users set variables for all that they run, below their homes, and those of the whole machine.
_ENVIRONMENTS = (
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
_OR_ELSE = re.compile(r"\A\$\{XDG_CONFIG_HOME:?-((?:[^{}]|\$\{HOME\})*)\}")
_HOME = re.compile(r"(?:\$HOME|\$\{HOME\}|@\{HOME\}|~)(?=/|$)")


def uid_range(login_defs: str, system: str) -> Tuple[int, int]:
    """Return the lowest and the highest number of an ordinary user, which login.defs(5) sets where there is one.

    ``system`` is what ``platform.system()`` returns.
    """
    values = {"UID_MIN": 501 if system == "Darwin" else 1000, "UID_MAX": 60000}
    for name, value in re.findall(r"^[ \t]*(UID_MIN|UID_MAX)[ \t]+([0-9]+)", login_defs, re.MULTILINE):
        values[name] = int(value)
    return values["UID_MIN"], values["UID_MAX"]


def ordinary(params: Dict[str, Any], system: str) -> Optional[Tuple[int, int]]:
    """Return the range of user numbers that a module's ``find_users``, ``uid_min`` and ``uid_max`` mean, None for nobody."""
    if not params["find_users"]:
        return None
    low, high = uid_range(read("/etc/login.defs") or "", system)
    return (
        low if params["uid_min"] is None else params["uid_min"],
        high if params["uid_max"] is None else params["uid_max"],
    )


def choose(find: Optional[Tuple[int, int]], listed: List[str], exclude: List[str]) -> List[pwd.struct_passwd]:
    """Return accounts by name: those listed, and with ``find`` all whose number is in that range and whose shell is one.

    They are asked of the system's name service. Raises ValueError for one who is listed and does not exist.
    """
    chosen: Dict[str, pwd.struct_passwd] = {}
    if find:
        for user in pwd.getpwall():
            if find[0] <= user.pw_uid <= find[1] and os.path.basename(user.pw_shell) not in NO_LOGIN:
                chosen[user.pw_name] = user
    for name in listed:
        try:
            user = pwd.getpwnam(name)
        except KeyError as exc:
            raise ValueError("there is no user %r on this host: correct the name, or make the user" % name) from exc
        chosen[user.pw_name] = user
    return [chosen[name] for name in sorted(chosen) if name not in exclude]


def config_home(home: str) -> Tuple[str, str]:
    """Return the folder of a user's settings as far as it can be known, and what a person should know about that.

    It is ``~/.config``, or what the user's own files set XDG_CONFIG_HOME to (the XDG base directory specification). Runs with
    the rights of that user.
    """
    usual = os.path.join(home, ".config")
    found = {value for path in _environment_files(home) for value in _XDG.findall(_text(path))}
    if not found:
        return usual, ""
    values = {_OR_ELSE.sub(r"\1", value.strip("\"'")) for value in found}
    folders = {os.path.normpath(_HOME.sub(lambda _match: home, value)) for value in values}
    folder = folders.pop()
    if folders or not os.path.isabs(folder) or re.search(r"[$`*\\]", folder):
        return usual, "XDG_CONFIG_HOME is set in a way that can't be seen from outside: set pip_client_config_homes"
    return folder, ""


def _environment_files(home: str) -> List[str]:
    paths: List[str] = []
    for name in _ENVIRONMENTS:
        path = os.path.join(home, name)
        paths += [os.path.join(path, one) for one in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
    return paths


def _text(path: str) -> str:
    try:
        return read(path) or ""
    except (Failed, OSError):
        return ""
