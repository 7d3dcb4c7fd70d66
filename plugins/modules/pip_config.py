#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pip_config
short_description: Put settings into the pip.conf of every user, and take them out again
description:
  - Puts settings into the C(pip.conf) of each user that it finds or is told of, all in one call.
  - Other keys, comments, their order, the kind of line ends and the file's mode stay as they are. A file that C(pip) could
    not read is left alone and reported.
  - What it does in a home is done with the rights of that user, never with root's. A symbolic link in a home leads it
    nowhere that the user could not go.
  - A file is replaced in one step. What was there first is kept beside it in C(pip.conf.before-devpi-mirror), and what was
    changed in C(pip.conf.devpi-mirror.json); O(state=absent) needs these two, and removes them.
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  content:
    description:
      - The settings, as the text of a C(pip.conf).
      - A user without a C(pip.conf) gets this text as it is. In an existing one, its keys are set.
      - Required with O(state=present).
    type: str
  state:
    description:
      - V(present) puts the settings there. V(absent) brings back what was there before. What the user has changed since
        then stays.
    type: str
    choices: [present, absent]
    default: present
  users:
    description:
      - The names of users to do this for. Each must exist and have a home.
    type: list
    elements: str
    default: []
  find_users:
    description:
      - Whether to do this for all ordinary users as well, those with a user number from O(uid_min) to O(uid_max), a login
        shell and a home that exists. They are asked of the system's name service, which can know those of a directory.
    type: bool
    default: false
  uid_min:
    description:
      - The lowest number of an ordinary user. By default that of C(/etc/login.defs), and V(1000) where there is none.
    type: int
  uid_max:
    description:
      - The highest number of an ordinary user. By default that of C(/etc/login.defs), and V(60000) where there is none.
    type: int
  exclude:
    description:
      - The names of users to leave alone, also when they are in O(users).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: full
    details:
      - Credentials in URLs are shown as C(***).
  platform:
    description: Target OS or families that can be operated against.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Have everybody install from the mirror
  devpi.mirror.pip_config:
    content: |
      [global]
      index-url = http://localhost:3141/root/pypi/+simple/
    find_users: true
    users: [root]

- name: Give everybody's configuration back
  devpi.mirror.pip_config:
    state: absent
    find_users: true
    users: [root]
"""

RETURN = r"""
users:
  description: What was done, user by user, by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The user's name.
      type: str
    path:
      description: The file. Empty if it could not be told.
      type: str
    action:
      description: What was done, one of V(created), V(updated), V(unchanged), V(restored), V(removed), V(failed).
      type: str
    message:
      description: What went wrong, or what a person should know. Empty if there is nothing.
      type: str
  sample: [{"name": "ada", "path": "/home/ada/.config/pip/pip.conf", "action": "created", "message": ""}]
"""

import hashlib
import json
import os
import platform
import pwd
import re
import stat
import tempfile
from typing import Any, Callable, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _pip_config
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed, run_as

BACKUP = ".before-devpi-mirror"
RECORD = ".devpi-mirror.json"
NO_LOGIN = frozenset(["", "nologin", "false", "true", "sync", "halt", "shutdown", "git-shell"])
_LARGEST = 1 << 20


def config_path(home: str, system: str) -> str:
    """Return the file that today's pip reads for the user of ``home``."""
    if system == "Darwin" and os.path.isdir(os.path.join(home, "Library", "Application Support", "pip")):
        return os.path.join(home, "Library", "Application Support", "pip", "pip.conf")
    return os.path.join(home, ".config", "pip", "pip.conf")


def read(path: str) -> Optional[str]:
    """Return a file's text, None if there is none. Raises Failed for what is no file of settings."""
    try:
        # Not to hang on a pipe that somebody has put there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Failed("%s is no ordinary file" % path)
        if status.st_size > _LARGEST:
            raise Failed("%s is too large for a pip.conf" % path)
        return stream.read().decode("utf-8", "surrogateescape")


def mode_of(path: str) -> int:
    """Return the mode of a file, and that of a new one if it is missing."""
    return stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644


def write(path: str, text: str, mode: int) -> None:
    """Replace a file in one step: after a crash there is the old one or the new one.

    Raises Failed if the old one belongs to somebody else, as it could not be given back to its owner.
    """
    if os.path.exists(path) and os.stat(path).st_uid != os.geteuid():
        raise Failed("%s belongs to user number %d: give it to its user with chown" % (path, os.stat(path).st_uid))
    folder = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=".pip.conf.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(path: str) -> List[str]:
    """Make the folders above ``path`` that are missing, and return them, the deepest first."""
    missing: List[str] = []
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        # What the XDG base directory specification asks of a folder that is made for it.
        os.mkdir(folder, 0o700)
    return missing


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_record(path: str) -> Optional[Dict[str, Any]]:
    """Return what was recorded when the settings were put there, None if they were not."""
    text = read(path + RECORD)
    if text is None:
        return None
    try:
        record = json.loads(text)
        if record["version"] == 1:
            return dict(record)
    except (ValueError, KeyError, TypeError):
        pass
    raise Failed("%s can't be read: restore or remove it" % (path + RECORD))


def check_writable(path: str) -> None:
    """Raise Failed if this user could not put a file there."""
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Failed("%s can't be written by its user: change its owner or mode, or leave this user out" % folder)


def _result(path: str, action: str, before: Optional[str], after: Optional[str], message: str = "") -> Dict[str, Any]:
    return {
        "path": path,
        "action": action,
        "message": message,
        "before": _pip_config.mask(before or "").encode("utf-8", "replace").decode("utf-8"),
        "after": _pip_config.mask(after or "").encode("utf-8", "replace").decode("utf-8"),
    }


def present(path: str, home: str, content: str, check_mode: bool) -> Dict[str, Any]:
    """Put the settings of ``content`` into the file at ``path``. Runs with the rights of the user of ``home``."""
    ours = _pip_config.parse(content)
    before = read(path)
    record = read_record(path)
    untouched = record is not None and before is not None and digest(before) == record["written"]
    try:
        if before is None or (record is not None and untouched and not record["existed"]):
            after, found = content, {}
        else:
            found = _pip_config.parse(before)
            after = _pip_config.merge(before if record is None else _without_dropped(before, ours, record), ours)
    except _pip_config.NotParsed as exc:
        raise Failed("%s is left as it is, as pip can't read it: %s" % (path, exc)) from exc
    message = contradictions(path, home, ours)
    if after == before:
        return _result(path, "unchanged", before, after, message)
    check_writable(path)
    check_writable(os.path.realpath(path))
    if not check_mode:
        made = make_folders(path)
        target = os.path.realpath(path)
        mode = mode_of(target)
        if record is None and before is not None:
            write(path + BACKUP, before, 0o600)
        new = {
            "version": 1,
            "existed": before is not None if record is None else record["existed"],
            "ours": ours,
            "before": _before(ours, found, record),
            "written": digest(after) if record is None or untouched else None,
            "folders": made if record is None else record["folders"],
            "mode": mode if record is None else record["mode"],
        }
        write(path + RECORD, json.dumps(new, indent=2, sort_keys=True) + "\n", 0o600)
        write(target, after, mode & 0o600 if _pip_config.credentials(after) else mode)
    return _result(path, "created" if before is None else "updated", before, after, message)


def _without_dropped(text: str, ours: _pip_config.Settings, record: Dict[str, Any]) -> str:
    """Return ``text`` with the keys that were ours and are no more as they were before us."""
    return _give_back(text, record, lambda section, name, value: name not in ours.get(section, {}))


def _give_back(text: str, record: Dict[str, Any], applies: Callable[[str, str, str], bool]) -> str:
    """Return ``text`` with those keys of ours that ``applies`` accepts (section, name, our value) as they were before us."""
    gone: _pip_config.Settings = {}
    back: _pip_config.Settings = {}
    for section, keys in record["ours"].items():
        for name, value in keys.items():
            if not applies(section, name, value):
                continue
            if name in record["before"].get(section, {}):
                back.setdefault(section, {})[name] = record["before"][section][name]
            else:
                gone.setdefault(section, {})[name] = value
    return _pip_config.merge(_pip_config.remove(text, gone), back)


def _before(
    ours: _pip_config.Settings, found: _pip_config.Settings, record: Optional[Dict[str, Any]]
) -> _pip_config.Settings:
    """Return the values that our keys had before us, without those that had none."""
    values: _pip_config.Settings = {} if record is None else {s: dict(k) for s, k in record["before"].items()}
    known = {} if record is None else record["ours"]
    for section, keys in ours.items():
        for name in keys:
            if name not in known.get(section, {}) and name in found.get(section, {}):
                values.setdefault(section, {})[name] = found[section][name]
    return values


def absent(path: str, check_mode: bool) -> Dict[str, Any]:
    """Bring back what was at ``path`` before us. Runs with the rights of its user."""
    before = read(path)
    record = read_record(path)
    if record is None:
        return _result(path, "unchanged", before, before)
    after: Optional[str] = before
    if before is not None and digest(before) == record["written"]:
        after = read(path + BACKUP) if record["existed"] else None
        if record["existed"] and after is None:
            after = _without(before, record, path)
    elif before is not None:
        after = _without(before, record, path)
        if not record["existed"] and not after.strip():
            after = None
    check_writable(path)
    if not check_mode:
        if after is None and before is not None:
            os.unlink(os.path.realpath(path))
        elif after is not None and after != before:
            write(os.path.realpath(path), after, record["mode"])
        for leftover in (path + BACKUP, path + RECORD):
            if os.path.lexists(leftover):
                os.unlink(leftover)
        _remove_folders(record["folders"])
    if after == before:
        return _result(path, "unchanged", before, after)
    return _result(path, "removed" if after is None else "restored", before, after)


def _without(text: str, record: Dict[str, Any], path: str) -> str:
    """Return ``text``, which its user has changed since, with those of our values that are still ours as they were."""
    try:
        found = _pip_config.parse(text)
        text = _pip_config.without_marks(text)
        # What its user has changed since is theirs.
        return _give_back(text, record, lambda section, name, value: found.get(section, {}).get(name) == value)
    except _pip_config.NotParsed as exc:
        raise Failed("%s is left as it is, as pip can't read it: %s" % (path, exc)) from exc


def _remove_folders(folders: List[str]) -> None:
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            # Somebody has put something there since, or it has gone.
            return


def contradictions(path: str, home: str, ours: _pip_config.Settings) -> str:
    """Say which older file of the user sets a key of ours to something else. pip reads both, and ours wins."""
    legacy = os.path.join(home, ".pip", "pip.conf")
    try:
        text = read(legacy) if os.path.realpath(legacy) != os.path.realpath(path) else None
        found = _pip_config.parse(text or "")
    except (Failed, OSError, _pip_config.NotParsed):
        return "%s can't be read, and pip reads it too" % legacy
    names = sorted(n for s in ours for n, v in ours[s].items() if found.get(s, {}).get(n, v) != v)
    return "%s sets another %s; ours wins" % (legacy, ", ".join(names)) if names else ""


def login_defs(text: str) -> Dict[str, int]:
    """Return ``UID_MIN`` and ``UID_MAX`` of a ``login.defs``, with login.defs(5)'s usual values where they are missing."""
    values = {"UID_MIN": 1000, "UID_MAX": 60000}
    for name, value in re.findall(r"^\s*(UID_MIN|UID_MAX)\s+(\d+)", text, re.MULTILINE):
        values[name] = int(value)
    return values


def is_ordinary(user: pwd.struct_passwd, uid_min: int, uid_max: int) -> bool:
    """Tell whether this is an account that a person logs in to and has a home for."""
    return (
        uid_min <= user.pw_uid <= uid_max
        and os.path.basename(user.pw_shell) not in NO_LOGIN
        and os.path.isdir(user.pw_dir)
    )


def choose_users(params: Dict[str, Any]) -> List[pwd.struct_passwd]:
    """Return the users to do this for, by name. Raises ValueError for one who is listed and not usable."""
    chosen: Dict[str, pwd.struct_passwd] = {}
    if params["find_users"]:
        defaults = login_defs(read("/etc/login.defs") or "")
        low = defaults["UID_MIN"] if params["uid_min"] is None else params["uid_min"]
        high = defaults["UID_MAX"] if params["uid_max"] is None else params["uid_max"]
        chosen = {user.pw_name: user for user in pwd.getpwall() if is_ordinary(user, low, high)}
    for name in params["users"]:
        try:
            user = pwd.getpwnam(name)
        except KeyError as exc:
            raise ValueError("there is no user %r on this host: correct the name, or make the user" % name) from exc
        if name not in params["exclude"] and not os.path.isdir(user.pw_dir):
            raise ValueError("user %r has no home: %s is missing; make it, or leave the user out" % (name, user.pw_dir))
        chosen[user.pw_name] = user
    return [chosen[name] for name in sorted(chosen) if name not in params["exclude"]]


def configure(user: pwd.struct_passwd, params: Dict[str, Any], check_mode: bool) -> Dict[str, Any]:
    """Do it for one user. Never raises for anything in the user's home."""
    path = config_path(user.pw_dir, platform.system())

    def work() -> Dict[str, Any]:
        if params["state"] == "absent":
            return absent(path, check_mode)
        return present(path, user.pw_dir, params["content"], check_mode)

    try:
        result = run_as(user, work)
    except Failed as exc:
        result = _result(path, "failed", "", "", str(exc))
    return dict(result, name=user.pw_name)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            # Kept out of the system's log.
            "content": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "users": {"type": "list", "elements": "str", "default": []},
            "find_users": {"type": "bool", "default": False},
            "uid_min": {"type": "int"},
            "uid_max": {"type": "int"},
            "exclude": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    params = module.params
    # Not the settings are secret, which a diff is to show, but the credentials in them.
    module.no_log_values.discard(params["content"])
    module.no_log_values.update(_pip_config.credentials(params["content"] or ""))
    try:
        _pip_config.parse(params["content"] or "")
        users = choose_users(params)
    except _pip_config.NotParsed as exc:
        module.fail_json(msg="content: %s" % exc)
    except ValueError as exc:
        module.fail_json(msg="users: %s" % exc)
    done = [configure(user, params, module.check_mode) for user in users]
    told = [{key: one[key] for key in ("name", "path", "action", "message")} for one in done]
    changed = [one for one in done if one["action"] not in ("unchanged", "failed")]
    result: Dict[str, Any] = {"changed": bool(changed), "users": told}
    if module._diff:
        result["diff"] = [
            {"before_header": one["path"], "after_header": one["path"], "before": one["before"], "after": one["after"]}
            for one in changed
        ]
    for one in told:
        if one["message"] and one["action"] != "failed":
            module.warn("%s: %s" % (one["name"], one["message"]))
    failed = ["%s: %s" % (one["name"], one["message"]) for one in told if one["action"] == "failed"]
    if failed:
        module.fail_json(msg="%d of %d users not done: %s" % (len(failed), len(done), "; ".join(failed)), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
