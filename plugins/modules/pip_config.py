#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pip_config
short_description: Configure pip, uv and other clients for many users
description:
  - Applies settings to the C(pip.conf) and the files of other tools of all selected users in one call, on request with
    credentials for the index in C(~/.netrc), and restores the originals.
  - Other keys, comments, their order, newlines, and the group, mode, ACLs and SELinux label of a file are preserved. A file
    that its tool can't read is reported and not changed. Symbolic links are followed and preserved.
  - All operations in a home directory run with the privileges of its user, never with those of root, so a symbolic link there
    leads only to what the user can access. The one exception is that root checks which users who are not selected have a record
    of changes, and reads no file for that.
  - Files are replaced atomically. The original of C(NAME), which is what it would contain without these settings, is saved
    beside it in C(NAME.before-devpi-mirror), and a record of the changes in C(NAME.devpi-mirror.json). O(state=absent) needs
    these two files, and removes them.
  - If the files of a user are in another directory than C(~/.config), C(~/.local/state/devpi-mirror.json) names that directory
    until they are restored, so that they are found after C(XDG_CONFIG_HOME) has changed. It also names that directory while it
    does not exist, as it can be on a file system that is not mounted.
  - Settings that an earlier call has applied to files of a user, and that this call does not include (a tool, a scope or a
    directory that is no longer used), are removed. See O(whole_host) for the files of the whole machine, and for those of users
    who are no longer selected.
extends_documentation_fragment: devpi.mirror.attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  contents:
    description:
      - The settings, as the text of a file, by tool. The tools are V(pip), V(uv), V(poetry), V(pdm), V(pipenv) and V(pixi).
      - A new file gets this text unchanged. In an existing file, the keys are set.
      - The format for V(pip) is that of C(pip.conf). For V(pipenv), and for V(poetry) with O(scope=global), it is lines of
        C(export NAME=value), as these two read the settings from the environment only. For all others, it is TOML.
      - Required with O(state=present).
    type: dict
    default: {}
  overrides:
    description:
      - Further settings of pip for individual users, as dictionaries of sections by user name. They take precedence over
        O(contents).
      - A list is written as a value of several lines. A key without a value is removed from that user's settings.
    type: dict
    default: {}
  index_url:
    description:
      - The URL of the index for which O(username) and O(password) are. Required with them, and unused without them.
    type: str
    default: ""
  username:
    description:
      - The user name for HTTP Basic authentication at the host of O(index_url). Empty for none.
      - It is written with O(password) to the C(~/.netrc) of each user, also with O(scope=global). pip and uv read that file. An
        entry is for all ports of a host.
      - Other entries are preserved. An entry for the same host is replaced, and restored with the file. The mode of the file is
        restricted to V(0600).
    type: str
    default: ""
  password:
    description:
      - The password of O(username). Both can have only ASCII characters, no spaces, no backslashes, and no quote C(") at the
        beginning, as versions of Python read others differently.
    type: str
    default: ""
  scope:
    description:
      - With V(user), the settings are written to the files of each user, with V(global) to those of the whole machine.
      - The settings of pipenv are always those of the whole machine.
    type: str
    choices: [user, global]
    default: user
  state:
    description:
      - V(present) applies the settings.
      - V(absent) restores the originals. Changes that the user has made since are preserved.
    type: str
    choices: [present, absent]
    default: present
  users:
    description:
      - The names of users to configure. Each must exist and have a home directory.
    type: list
    elements: str
    default: []
  find_users:
    description:
      - Whether to also configure all ordinary users, which are those with a UID from O(uid_min) to O(uid_max), a login shell
        and an existing home directory.
      - The users are those of the system's name service, which can include LDAP or SSSD users.
    type: bool
    default: false
  uid_min:
    description:
      - The lowest UID of ordinary users. By default, that of C(/etc/login.defs), or V(1000) (V(501) on macOS) if it has none.
    type: int
  uid_max:
    description:
      - The highest UID of ordinary users. By default, that of C(/etc/login.defs), or V(60000) if it has none.
    type: int
  exclude:
    description:
      - The names of users who are not configured. It takes precedence over O(users). See O(whole_host) for those who were
        configured by an earlier call.
    type: list
    elements: str
    default: []
  whole_host:
    description:
      - Whether this call includes all users and all settings of the host. If so, settings that an earlier call has applied to
        files of the whole machine, and that this call does not include, are removed, and the files of all other users whom an
        earlier call has configured are restored.
      - An error while the files of a user who is not selected are restored is a warning. Users whom the name service does not
        list are only found if O(exclude) names them.
    type: bool
    default: false
  config_homes:
    description:
      - The values of C(XDG_CONFIG_HOME), by user name. Only needed for users for whom the module can't determine it from the
        files that set environment variables.
    type: dict
    default: {}
  legacy:
    description:
      - How to handle a user's C(~/.pip/pip.conf), which is from an old version of pip and which current versions still read.
      - V(report) reports it if it contradicts the settings. V(migrate) moves its settings to the current file. V(use) applies
        the settings to it, for pip before version 6.
    type: str
    choices: [report, migrate, use]
    default: report
  exclusive:
    description:
      - Keys of pip's section C(global) that a user must not have set to other values. If a user has, the user is reported and
        not configured.
    type: list
    elements: str
    default: []
  errors:
    description:
      - Whether the task fails or warns if some users could not be configured. All other users are configured in both cases.
    type: str
    choices: [fail, warn]
    default: fail
attributes:
  diff_mode:
    support: full
    details:
      - Credentials in URLs and passwords in C(~/.netrc) are replaced by C(***).
notes:
  - Changes to C(~/.local/state/devpi-mirror.json) alone are not reported as changes. The module makes them if that file does
    not name a directory of configured files yet (as after an update of the collection), or names one whose files were removed.
seealso:
  - module: devpi.mirror.pip_info
"""

EXAMPLES = r"""
- name: Configure pip and uv of all users to use the mirror
  devpi.mirror.pip_config:
    contents:
      pip: |
        [global]
        index-url = http://127.0.0.1:3141/root/pypi/+simple/
      uv: |
        [pip]
        index-url = "http://127.0.0.1:3141/root/pypi/+simple/"
    find_users: true
    users: [root]
  become: true

- name: Configure pip to use an index that requires a password, which is written to ~/.netrc
  devpi.mirror.pip_config:
    contents:
      pip: |
        [global]
        index-url = https://devpi.example.com/acme/stable/+simple/
    index_url: https://devpi.example.com/acme/stable/+simple/
    username: reader
    password: "{{ vault_devpi_reader_password }}"
    find_users: true
  become: true

- name: Restore the configuration of all users
  devpi.mirror.pip_config:
    state: absent
    find_users: true
    users: [root]
    whole_host: true
  become: true
"""

RETURN = r"""
users:
  description: The results, by user and file.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the user, V(all users) for a file of the whole machine.
      type: str
    tool:
      description:
        - The tool that reads the file, V(netrc) for C(~/.netrc). Empty if the user could not be configured at all, and for
          C(~/.local/state/devpi-mirror.json), which is only returned if it can't be read or written.
      type: str
    path:
      description: The path of the file. Empty if the user could not be configured at all.
      type: str
    action:
      description:
        - The result, one of V(created), V(updated), V(unchanged), V(restored), V(removed) and V(failed).
        - A user who is not selected has results only if files are restored, or if that failed.
      type: str
    message:
      description: The error or the warning, if there is one.
      type: str
  sample: [{"name": "ada", "tool": "pip", "path": "/home/ada/.config/pip/pip.conf", "action": "created", "message": ""}]
"""

import os
import platform
import pwd
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Callable, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils._accounts import (
    config_home,
    other_accounts,
    regular_uids,
    select_users,
)
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError, reason, run_as_all
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import credentials
from ansible_collections.devpi.mirror.plugins.module_utils._edit import (
    INI,
    SHELL,
    TOML,
    Format,
    ParseError,
    edit,
    parse,
    pip_name,
)
from ansible_collections.devpi.mirror.plugins.module_utils._host import find_account
from ansible_collections.devpi.mirror.plugins.module_utils._netrc import NETRC, check_entry, entry
from ansible_collections.devpi.mirror.plugins.module_utils._user_file import (
    CONFIG_HOMES,
    RECORD,
    Outcome,
    apply,
    can_exist,
    created_folders,
    is_configured,
    original_text,
    read,
    read_config_homes,
    record_config_homes,
    restore,
)

# In place of a user's name, for a file of the whole machine. No account can have this name.
ALL_USERS = "all users"
GLOBAL_PIP = "/etc/pip.conf"
# Seconds for the check of all users who are not selected, and for the restoration of one of them. They can be excluded because
# their home directory hangs.
PROBE_TIMEOUT = 5.0
RESTORE_TIMEOUT = 10.0
# The end of a warning about two files of pip that contradict each other.
OURS_PRECEDES = "the setting of the mirror takes precedence"
THEIRS_PRECEDES = "it takes precedence"


class Place(NamedTuple):
    """The path and the format of a tool's configuration file."""

    tool: str
    path: str
    file_format: Format


def global_places(system: str) -> list[Place]:
    """Return the configuration files of the whole machine, as in the tools' documentation."""
    support = "/Library/Application Support"
    places = [Place("uv", "/etc/uv/uv.toml", TOML), Place("pixi", "/etc/pixi/config.toml", TOML)]
    if system == "Darwin":
        return [*places, Place("pip", support + "/pip/pip.conf", INI), Place("pdm", support + "/pdm/config.toml", TOML)]
    return [
        *places,
        Place("pip", GLOBAL_PIP, INI),
        Place("pdm", "/etc/xdg/pdm/config.toml", TOML),
        Place("poetry", "/etc/profile.d/devpi-mirror-poetry.sh", SHELL),
        Place("pipenv", "/etc/profile.d/devpi-mirror-pipenv.sh", SHELL),
    ]


def is_global(tool: str, scope: str) -> bool:
    """Return whether a tool's settings are written to a file of the whole machine. pipenv has no files of users."""
    return tool != "netrc" and (scope == "global" or tool == "pipenv")


def user_places(home: str, config: str, system: str) -> list[Place]:
    """Return a user's configuration files. ``config`` is the directory of the user's settings."""
    support = os.path.join(home, "Library", "Application Support")
    # pip on macOS uses this directory if it exists, and ignores XDG_CONFIG_HOME otherwise.
    if system == "Darwin" and os.path.isdir(os.path.join(support, "pip")):
        pip = os.path.join(support, "pip", "pip.conf")
    else:
        pip = os.path.join(os.path.join(home, ".config") if system == "Darwin" else config, "pip", "pip.conf")
    platform_config = support if system == "Darwin" else config
    return [
        Place("pip", pip, INI),
        Place("uv", os.path.join(config, "uv", "uv.toml"), TOML),
        Place("poetry", os.path.join(platform_config, "pypoetry", "config.toml"), TOML),
        Place("pdm", os.path.join(platform_config, "pdm", "config.toml"), TOML),
        Place("pixi", os.path.join(config, "pixi", "config.toml"), TOML),
    ]


def netrc_place(home: str) -> Place:
    return Place("netrc", os.path.join(home, ".netrc"), NETRC)


def earlier_places(home: str, config_homes: list[str], system: str) -> list[Place]:
    """Return the files that earlier calls can have configured in the home directory and these directories of settings."""
    places = [place for folder in config_homes for place in user_places(home, folder, system)]
    # On macOS, the file of pip is here until pip has a directory of its own.
    return [*places, Place("pip", os.path.join(home, ".config", "pip", "pip.conf"), INI), netrc_place(home)]


def has_configured_files(home: str, config: str, system: str) -> bool:
    return any(is_configured(place.path) for place in user_places(home, config, system))


def with_overrides(content: str, overrides: dict[str, Any]) -> str:
    """Return the text of a pip.conf with the settings of one user. Raises ParseError."""
    changes = {
        section: {pip_name(name): format_value(value) for name, value in keys.items()}
        for section, keys in overrides.items()
    }
    text = edit(content, changes, INI)
    INI.check(text)
    return text


def format_value(value: Any) -> str | None:
    """Return a value in the format of pip.conf, None to remove its key."""
    if isinstance(value, list):
        return "".join(f"\n    {item}" for item in value)
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def wanted_contents(params: dict[str, Any], user: str) -> dict[str, str]:
    """Return the texts for a user's files, by tool. Raises ParseError."""
    contents = {tool: text for tool, text in params["contents"].items() if not is_global(tool, params["scope"])}
    if "pip" in contents:
        contents["pip"] = with_overrides(contents["pip"], params["overrides"].get(user, {}))
    return contents


def configure_user(
    user: pwd.struct_passwd, params: dict[str, Any], system: str, is_named: bool
) -> list[dict[str, Any]]:
    """Configure one user, and return the results by file. Runs with that user's privileges."""
    if not os.path.isdir(user.pw_dir):
        if is_named:
            raise OperationError(f"the home directory {user.pw_dir} does not exist: create it, or exclude the user")
        return []
    config, warning = config_home(user.pw_dir)
    if user.pw_name in params["config_homes"]:
        config, warning = params["config_homes"][user.pw_name], ""
    places = user_places(user.pw_dir, config, system)
    legacy = Place("pip", os.path.join(user.pw_dir, ".pip", "pip.conf"), INI)
    contents = wanted_contents(params, user.pw_name)
    pip = legacy if params["legacy"] == "use" else places[0]
    migrates = params["legacy"] == "migrate" and "pip" in contents and not is_same_file(legacy.path, pip.path)
    wanted = [place for place in [pip, *places[1:], netrc_place(user.pw_dir)] if place.tool in contents]
    default = os.path.join(user.pw_dir, ".config")
    recorded, problems = recorded_config_homes(user.pw_dir)
    # A directory that is not mounted now can have configured files.
    missing = [folder for folder in recorded if not os.path.exists(folder)]
    others = [*places, legacy, *earlier_places(user.pw_dir, [default, *recorded], system)]
    locations = {location(path) for path in [*(place.path for place in wanted), *([legacy.path] if migrates else [])]}
    unwanted = {place.path: place for place in others if location(place.path) not in locations}
    # If two files are links to the same one, only its first backup is the original.
    targets = {os.path.realpath(place.path) for place in wanted}
    linked = [path for path in unwanted if os.path.realpath(path) in targets]
    restored = restore_files([unwanted.pop(path) for path in linked], params)

    def apply_to(place: Place, check_mode: bool) -> list[dict[str, Any]]:
        folders = created_folders(other.path for other in others)
        settings = dict(params, check_mode=check_mode)
        return apply_to_file(place, contents[place.tool], settings, folders, legacy if place is pip else None, migrates)

    def has_record(place: Place) -> bool:
        """Return whether a file of the current directory has a record, or gets one now."""
        return is_configured(place.path) or apply_to(place, True)[0]["action"] in ("created", "updated")

    if not problems and config not in [default, *recorded] and any(has_record(one) for one in wanted if one in places):
        consequence = f"the files in {config} are not found after XDG_CONFIG_HOME has changed"
        problems = record(user.pw_dir, [*recorded, config], params["check_mode"], "unchanged", consequence)
        recorded += [] if problems else [config]
    results = [result for place in wanted for result in apply_to(place, params["check_mode"])]
    results += restored + restore_files(list(unwanted.values()), params)
    remaining = [one for one in recorded if one in missing or has_configured_files(user.pw_dir, one, system)]
    if remaining != recorded:
        consequence = "it still names a directory without configured files"
        problems += record(user.pw_dir, remaining, params["check_mode"], "failed", consequence)
    return add_warnings(results, contents, params, pip, [places[0].path, legacy.path], warning) + problems


def record_paths(user: pwd.struct_passwd, params: dict[str, Any], system: str) -> list[str]:
    """Return the records of which a user has at least one, if an earlier call has configured files of that user."""
    folders = [os.path.join(user.pw_dir, ".config"), params["config_homes"].get(user.pw_name)]
    places = earlier_places(user.pw_dir, [folder for folder in folders if folder], system)
    files = [os.path.join(user.pw_dir, ".pip", "pip.conf"), *(place.path for place in places)]
    return [os.path.join(user.pw_dir, CONFIG_HOMES), *(path + RECORD for path in files)]


def probe_users(users: list[pwd.struct_passwd], params: dict[str, Any], system: str) -> list[bool | None]:
    """Return which users can have configured files, None for a home directory that hangs.

    This runs as root, in a single process, as a host can have hundreds of accounts without such files. It only checks whether
    paths exist. Of a home directory that root can't read, only a process of its user knows.
    """

    def can_have_records(user: pwd.struct_passwd) -> bool:
        return any(can_exist(path) for path in record_paths(user, params, system))

    # A home directory that hangs blocks one thread. The end of the process ends that too.
    executor = ThreadPoolExecutor(256)
    futures = [executor.submit(can_have_records, user) for user in users]
    done = wait(futures, PROBE_TIMEOUT).done
    return [future.result() if future in done else None for future in futures]


def restore_user(user: pwd.struct_passwd, params: dict[str, Any], system: str) -> list[dict[str, Any]]:
    """Restore the files of a user who is not selected. Runs with that user's privileges."""
    # A home directory that its user can't access now either (as without a Kerberos ticket) is checked again by the next call.
    if not any(os.path.lexists(path) for path in record_paths(user, params, system)):
        return []
    return configure_user(user, dict(params, contents={}), system, False)


def recorded_config_homes(home: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the recorded directories of settings and, if the record is inaccessible, a result with a warning."""
    try:
        return read_config_homes(home), []
    except OSError as exc:
        consequence = "files in an earlier XDG_CONFIG_HOME are not found"
        return [], [record_result(home, "unchanged", f"could not be read: {consequence}: {reason(exc)}")]


def record(home: str, config_homes: list[str], check_mode: bool, action: str, consequence: str) -> list[dict[str, Any]]:
    """Record the directories of settings. If that fails, return a result with this action."""
    try:
        record_config_homes(home, config_homes, check_mode)
    except (OperationError, OSError) as exc:
        return [record_result(home, action, f"could not be written: {consequence}: {reason(exc)}")]
    return []


def record_result(home: str, action: str, message: str) -> dict[str, Any]:
    path = os.path.join(home, CONFIG_HOMES)
    return dict(Outcome(path, action, message=f"{path} {message}").as_dict(), tool="")


def add_warnings(
    results: list[dict[str, Any]],
    contents: dict[str, str],
    params: dict[str, Any],
    pip: Place,
    others: list[str],
    warning: str,
) -> list[dict[str, Any]]:
    """Return the results with a warning if a file of pip contradicts the settings. ``others`` are its two possible paths."""
    current, legacy = others
    if "pip" in contents:
        precedence = {current: "it takes precedence in pip 6 and later", legacy: OURS_PRECEDES}
        other_files = {path: text for path, text in precedence.items() if not is_same_file(path, pip.path)}
        results[0]["message"] = results[0]["message"] or warning or contradiction(contents["pip"], other_files)
    elif "pip" in params["contents"]:
        message = contradiction(params["contents"]["pip"], {current: THEIRS_PRECEDES, legacy: THEIRS_PRECEDES})
        if message:
            results.append(dict(Outcome(pip.path, "unchanged", message=message).as_dict(), tool="pip"))
    return results


def location(path: str) -> str:
    """Return a path without links to directories. A link to the file itself has a backup of its own."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def is_same_file(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def apply_to_file(
    place: Place,
    content: str,
    params: dict[str, Any],
    folders: frozenset[str],
    legacy: Place | None = None,
    migrates: bool = False,
) -> list[dict[str, Any]]:
    """Apply settings to one file, and return the results. With ``migrates``, the settings of the legacy file are moved to it.

    ``folders`` were created for the other files.
    """
    check_mode = params["check_mode"]

    def wanted(original: str | None) -> str | None:
        legacy_text = original_text(legacy.path, INI) if legacy else None
        if place.tool == "pip" and params["exclusive"]:
            # The user's own file replaces the settings of the machine's.
            for text in (original, legacy_text, read(GLOBAL_PIP) if params["scope"] == "user" else None):
                check_exclusive(text or "", content, params["exclusive"])
        if place.tool == "netrc":
            check_entry(original or "", content)
        if migrates:
            original = with_legacy(original, legacy_text)
        return content if original is None else edit(original, parse(content, place.file_format), place.file_format)

    def work() -> list[Outcome]:
        outcomes = [apply(place.path, place.file_format, wanted, check_mode, folders)]
        if migrates and legacy:
            if original_text(legacy.path, INI) is not None:
                outcomes.append(apply(legacy.path, INI, lambda _original: None, check_mode))
            else:
                # An earlier call with "use" can have created it.
                removed = restore(legacy.path, INI, check_mode)
                outcomes += [removed] if removed.action != "unchanged" else []
        return outcomes

    return results_of(place, work)


def restore_file(place: Place, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Restore the original of one file, and return the results, none if it was not configured."""
    results = results_of(place, lambda: [restore(place.path, place.file_format, params["check_mode"])])
    return [result for result in results if result["action"] != "unchanged"]


def restore_files(places: list[Place], params: dict[str, Any]) -> list[dict[str, Any]]:
    return [result for place in places for result in restore_file(place, params)]


def results_of(place: Place, work: Callable[[], list[Outcome]]) -> list[dict[str, Any]]:
    """Return the results of ``work``, or its error as a result."""
    try:
        outcomes = work()
    except (OperationError, ParseError, OSError) as exc:
        outcomes = [Outcome(place.path, "failed", message=reason(exc))]
    return [dict(outcome.as_dict(place.file_format.secrets), tool=place.tool) for outcome in outcomes]


def with_legacy(current: str | None, legacy: str | None) -> str | None:
    """Return the text of the current file with the settings that only the legacy file has. Raises ParseError."""
    if current is None or legacy is None:
        return current if legacy is None else legacy
    known = parse(current, INI)
    additional = {
        section: {name: value for name, value in keys.items() if name not in known.get(section, {})}
        for section, keys in parse(legacy, INI).items()
    }
    return edit(current, {section: keys for section, keys in additional.items() if keys}, INI)


def check_exclusive(text: str, content: str, names: list[str]) -> None:
    """Raise OperationError if a user's file sets one of these keys to another value."""
    found, wanted = parse(text, INI).get("global", {}), parse(content, INI).get("global", {})
    for name in names:
        if found.get(name, wanted.get(name)) != wanted.get(name):
            raise OperationError(
                f"its section [global] sets {name} to another value, which the option exclusive (variable pip_client_fallback) "
                "does not allow. With a private and a public index side by side, an attacker can publish a package under a "
                "private package's name. Remove it from the section, or exclude this user"
            )


def contradiction(content: str, precedence: dict[str, str]) -> str:
    """Return a warning if another file that pip reads sets a key of ``content`` to another value.

    ``precedence`` describes which file takes precedence, by the path of the other file.
    """
    settings = parse(content, INI)
    for path, description in precedence.items():
        try:
            found = parse(read(path) or "", INI)
        except (OperationError, OSError, ParseError):
            return f"could not read {path}, which pip reads too"
        names = sorted(n for s in settings for n, v in settings[s].items() if found.get(s, {}).get(n, v) != v)
        if names:
            return f"{path} sets a different {', '.join(names)}; {description}"
    return ""


def check(params: dict[str, Any], system: str) -> None:
    """Raise ValueError, with the name of the option, for invalid options."""
    if params["state"] == "present" and not params["contents"]:
        raise ValueError("contents: required if state is present")
    if bool(params["username"]) != bool(params["password"]):
        raise ValueError("username and password: set both or none")
    if params["username"]:
        entry(params["index_url"], params["username"], params["password"])
    for tool, content in params["contents"].items():
        check_content(tool, content, params["scope"], system)
    for name, sections in params["overrides"].items():
        if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
            raise ValueError(f"overrides: the settings of {name} have no sections: use {{global: {{timeout: 30}}}}")
        try:
            with_overrides(params["contents"].get("pip", ""), sections)
        except ParseError as exc:
            raise ValueError(f"overrides: the settings of {name} are invalid: {exc}") from exc
    for name, folder in params["config_homes"].items():
        if not str(folder).startswith("/"):
            raise ValueError(f"config_homes: the path of {name} is not absolute")


def check_content(tool: str, content: str, scope: str, system: str) -> None:
    """Raise ValueError if the settings of a tool are invalid."""
    is_machine_wide = is_global(tool, scope)
    places = global_places(system) if is_machine_wide else user_places("/", "/", system)
    file_format = next((place.file_format for place in places if place.tool == tool), None)
    if file_format is None:
        raise ValueError(f"contents: {tool} is not supported on this system with scope {scope}")
    try:
        parse(content, file_format)
    except ParseError as exc:
        raise ValueError(f"contents: the settings of {tool} are invalid: {exc}") from exc
    if credentials(content) and is_machine_wide:
        raise ValueError(
            f"contents: the settings of {tool} contain a password that all users could read: set scope to user or remove {tool}"
        )


def failure(error: OperationError) -> dict[str, Any]:
    """Return the result for a user of whom no file is known."""
    return dict(Outcome("", "failed", message=str(error)).as_dict(), tool="")


def restore_others(selected: list[pwd.struct_passwd], params: dict[str, Any], system: str) -> list[dict[str, Any]]:
    """Restore the files of all users who are not selected, and return the results. Errors are marked as warnings."""
    # Without root privileges, only the files of this process's own user are accessible.
    others = [user for user in other_accounts(selected, params["exclude"]) if os.geteuid() in (0, user.pw_uid)]
    if not others:
        return []
    caller = pwd.getpwuid(os.geteuid())
    probed = run_as_all([caller], lambda _user: probe_users(others, params, system), PROBE_TIMEOUT + 5)[0]
    states = [None] * len(others) if isinstance(probed, OperationError) else probed
    hanging = OperationError("its home directory does not respond")
    found = [(user, hanging) for user, state in zip(others, states) if state is None]
    users = [user for user, state in zip(others, states) if state]
    found += zip(users, run_as_all(users, lambda user: restore_user(user, params, system), RESTORE_TIMEOUT))
    results: list[dict[str, Any]] = []
    for user, user_results in found:
        for result in [failure(user_results)] if isinstance(user_results, OperationError) else user_results:
            if result["message"]:
                message = f"could not restore all files of this user, who is not selected: {result['message']}"
                result = dict(result, action="failed", message=message, is_warning=True)
            results.append(dict(result, name=user.pw_name))
    return results


def configure(params: dict[str, Any], system: str) -> list[dict[str, Any]]:
    """Configure all selected users, and return the results by file. Raises ValueError for users that do not exist."""
    users = select_users(regular_uids(params, system), params["users"], params["exclude"])
    contents = dict(params["contents"]) if params["state"] == "present" else {}
    if params["username"] and contents:
        contents["netrc"] = entry(params["index_url"], params["username"], params["password"])
    params = dict(params, contents=contents)
    named = set(params["users"])
    results: list[dict[str, Any]] = []

    def work(user: pwd.struct_passwd) -> list[dict[str, Any]]:
        return configure_user(user, params, system, user.pw_name in named)

    for user, user_results in zip(users, run_as_all(users, work)):
        if isinstance(user_results, OperationError):
            user_results = [failure(user_results)]
        results += [dict(result, name=user.pw_name) for result in user_results]
    if params["whole_host"]:
        results += restore_others(users, params, system)
    for place in global_places(system):
        is_wanted = place.tool in contents and is_global(place.tool, params["scope"])
        if is_wanted or params["whole_host"]:
            folders = created_folders(other.path for other in global_places(system)) if is_wanted else frozenset()
            place_results = (
                apply_to_file(place, contents[place.tool], params, folders)
                if is_wanted
                else restore_file(place, params)
            )
            results += [dict(result, name=ALL_USERS) for result in place_results]
    return results


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            # Not written to the system's log.
            "contents": {"type": "dict", "default": {}, "no_log": True},
            "overrides": {"type": "dict", "default": {}, "no_log": True},
            "index_url": {"type": "str", "default": ""},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "scope": {"type": "str", "choices": ["user", "global"], "default": "user"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "users": {"type": "list", "elements": "str", "default": []},
            "find_users": {"type": "bool", "default": False},
            "uid_min": {"type": "int"},
            "uid_max": {"type": "int"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "whole_host": {"type": "bool", "default": False},
            "config_homes": {"type": "dict", "default": {}},
            "legacy": {"type": "str", "choices": ["report", "migrate", "use"], "default": "report"},
            "exclusive": {"type": "list", "elements": "str", "default": []},
            "errors": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    params = dict(module.params, check_mode=module.check_mode)
    # Of the settings, only the credentials are secret. A diff shows the settings.
    module.no_log_values.clear()
    module.no_log_values.update([params["password"]] if params["password"] else [])
    for text in [*params["contents"].values(), params["index_url"], str(params["overrides"])]:
        module.no_log_values.update(credentials(text))
    system = platform.system()
    try:
        check(params, system)
        results = configure(params, system)
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    users = [{key: result[key] for key in ("name", "tool", "path", "action", "message")} for result in results]
    changed = [result for result in results if result["action"] not in ("unchanged", "failed")]
    values: dict[str, Any] = {"changed": bool(changed), "users": users}
    if module._diff:
        values["diff"] = [
            {"before_header": one["path"], "after_header": one["path"], "before": one["before"], "after": one["after"]}
            for one in changed
        ]
    warnings = [one for one in results if one["message"] and (one["action"] != "failed" or "is_warning" in one)]
    failed = [one for one in results if one["action"] == "failed" and "is_warning" not in one]
    for name in sorted(params["overrides"]):
        if find_account(name) is None:
            module.warn(
                f"pip_client_user_settings: user {name!r} does not exist on this host, so its settings are not used"
            )
    for one in warnings if params["errors"] == "fail" else [*warnings, *failed]:
        module.warn(f"{one['name']}: {one['message']}")
    if failed and params["errors"] == "fail":
        errors = "; ".join(f"{one['name']}: {one['message']}" for one in failed)
        module.fail_json(msg=f"Could not configure: {errors}", **values)
    module.exit_json(**values)


if __name__ == "__main__":
    main()
