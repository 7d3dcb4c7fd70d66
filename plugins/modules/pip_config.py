#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pip_config
short_description: Put settings of pip, uv and others into every user's files, and take them out again
description:
  - Puts settings into the C(pip.conf) of each user that it finds or is told of, and into the files of other tools, all in one
    call.
  - Other keys, comments, their order, the kind of line ends and the file's group, mode and labels stay as they are. A file that
    its tool could not read is left alone and reported. A symbolic link is followed and stays one.
  - What it does in a home is done with the rights of that user, never with root's. A symbolic link in a home leads it
    nowhere that the user could not go.
  - A file is replaced in one step. What would be there without these settings is kept beside it in
    C(NAME.before-devpi-mirror), and what was changed in C(NAME.devpi-mirror.json); O(state=absent) needs these two, and
    removes them.
  - Settings that an earlier call has put into a user's files where this one wants none (a tool, a scope or a place that is no
    more asked for) are taken out again. See O(whole_host) for those of the machine.
extends_documentation_fragment: action_common_attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  contents:
    description:
      - The settings, as the text of a file, by tool. Tools are V(pip), V(uv), V(poetry), V(pdm), V(pipenv) and V(pixi).
      - Where there is no such file, it gets this text as it is. In an existing one, its keys are set.
      - Those of V(pip) are a C(pip.conf), those of V(pipenv), and of V(poetry) with O(scope=global), lines
        C(export NAME=value), as these two take that from the environment alone. All others are TOML.
      - Required with O(state=present).
    type: dict
    default: {}
  overrides:
    description:
      - For single users, by name, further settings of pip by section and key. They win over those in O(contents).
      - A list becomes a value of several lines. A key without a value is left out of that user's settings.
    type: dict
    default: {}
  scope:
    description:
      - V(user) is for each user's own files, V(global) for those of the whole machine.
      - The settings of pipenv are always the machine's.
    type: str
    choices: [user, global]
    default: user
  state:
    description:
      - V(present) puts the settings there. V(absent) brings back what would be there without them. What the user has changed
        since then stays.
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
      - The lowest number of an ordinary user. By default that of C(/etc/login.defs), and V(1000) where there is none (V(501) on
        macOS).
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
  whole_host:
    description:
      - Whether this call tells all that is wanted on the host, so that settings that an earlier call has put into files of the
        whole machine, and this one does not want, are taken out again.
    type: bool
    default: false
  config_homes:
    description:
      - For single users, by name, the folder that their C(XDG_CONFIG_HOME) is set to. It is looked for in the files where users
        set it, and needed here only if it is set elsewhere or in a way that can't be read there.
    type: dict
    default: {}
  legacy:
    description:
      - What to do about the C(~/.pip/pip.conf) that a user may have from older versions of pip, which read it still.
      - V(report) tells if it contradicts the settings. V(migrate) moves what it says into today's file. V(use) puts the
        settings there, for a pip that is older than version 6.
    type: str
    choices: [report, migrate, use]
    default: report
  exclusive:
    description:
      - Keys of pip's section C(global) that a user must not have set otherwise. One who has is left alone and reported.
    type: list
    elements: str
    default: []
  errors:
    description:
      - Whether the task fails when single users could not be done, after all others are, or warns.
    type: str
    choices: [fail, warn]
    default: fail
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Credentials in URLs are shown as C(***).
  platform:
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Have everybody install from the mirror
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

- name: Give everybody's configuration back
  devpi.mirror.pip_config:
    state: absent
    find_users: true
    users: [root]
    whole_host: true
"""

RETURN = r"""
users:
  description: What was done, by user and file.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The user's name, V(everybody) for a file of the whole machine.
      type: str
    tool:
      description: The tool whose file it is. Empty if nothing could be done for that user.
      type: str
    path:
      description: The file. Empty if nothing could be done for that user.
      type: str
    action:
      description: What was done, one of V(created), V(updated), V(unchanged), V(restored), V(removed), V(failed).
      type: str
    message:
      description: What went wrong, or what a person should know. Empty if there is nothing.
      type: str
  sample: [{"name": "ada", "tool": "pip", "path": "/home/ada/.config/pip/pip.conf", "action": "created", "message": ""}]
"""

import os
import platform
import pwd
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils._accounts import choose, config_home, ordinary
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed, reason, run_as_all
from ansible_collections.devpi.mirror.plugins.module_utils._edit import (
    INI,
    SHELL,
    TOML,
    Format,
    NotParsed,
    credentials,
    edit,
    parse,
    pip_name,
)
from ansible_collections.devpi.mirror.plugins.module_utils._user_file import (
    Outcome,
    made_folders,
    put,
    read,
    take,
    without_us,
)

EVERYBODY = "everybody"
GLOBAL_PIP = "/etc/pip.conf"


class Place(NamedTuple):
    """Where a tool has its settings, and how they are written."""

    tool: str
    path: str
    form: Format


def global_places(system: str) -> List[Place]:
    """Return the files of the whole machine, as the tools' own documentation has them."""
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
    """Tell whether a tool's settings go into a file of the whole machine. pipenv knows no other."""
    return scope == "global" or tool == "pipenv"


def user_places(home: str, config: str, system: str) -> List[Place]:
    """Return a user's files. ``config`` is the user's folder of settings."""
    support = os.path.join(home, "Library", "Application Support")
    # pip on macOS takes this folder if it is there, and else knows no other than the usual one.
    if system == "Darwin" and os.path.isdir(os.path.join(support, "pip")):
        pip = os.path.join(support, "pip", "pip.conf")
    else:
        pip = os.path.join(os.path.join(home, ".config") if system == "Darwin" else config, "pip", "pip.conf")
    apart = support if system == "Darwin" else config
    return [
        Place("pip", pip, INI),
        Place("uv", os.path.join(config, "uv", "uv.toml"), TOML),
        Place("poetry", os.path.join(apart, "pypoetry", "config.toml"), TOML),
        Place("pdm", os.path.join(apart, "pdm", "config.toml"), TOML),
        Place("pixi", os.path.join(config, "pixi", "config.toml"), TOML),
    ]


def overridden(content: str, overrides: Dict[str, Any]) -> str:
    """Return the text of a pip.conf with one user's own settings in it. Raises NotParsed."""
    changes = {
        section: {pip_name(name): value_of(value) for name, value in keys.items()}
        for section, keys in overrides.items()
    }
    text = edit(content, changes, INI)
    INI.check(text)
    return text


def value_of(value: Any) -> Optional[str]:
    """Return a value as pip.conf has it, None for none."""
    if isinstance(value, list):
        return "".join("\n    %s" % one for one in value)
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def configure_user(user: pwd.struct_passwd, params: Dict[str, Any], system: str, listed: bool) -> List[Dict[str, Any]]:
    """Do it for one user, and return what happened to each file. Runs with the rights of that user."""
    if not os.path.isdir(user.pw_dir):
        if listed:
            raise Failed("the home %s is missing: make it, or leave the user out" % user.pw_dir)
        return []
    config, note = config_home(user.pw_dir)
    if user.pw_name in params["config_homes"]:
        config, note = params["config_homes"][user.pw_name], ""
    places = user_places(user.pw_dir, config, system)
    legacy = Place("pip", os.path.join(user.pw_dir, ".pip", "pip.conf"), INI)
    contents = dict(params["contents"]) if params["scope"] == "user" else {}
    if "pip" in contents:
        contents["pip"] = overridden(contents["pip"], params["overrides"].get(user.pw_name, {}))
    pip = legacy if params["legacy"] == "use" else places[0]
    moves = params["legacy"] == "migrate" and "pip" in contents
    wanted = {place.path: contents[place.tool] for place in [pip, *places[1:]] if place.tool in contents}
    # Where an earlier call may have put something, when other folders or tools were asked for.
    others = [*places, legacy, *user_places(user.pw_dir, os.path.join(user.pw_dir, ".config"), system)]
    unwanted = {place.path: place for place in others if place.path not in wanted and not (moves and place is legacy)}
    results: List[Dict[str, Any]] = []
    for place in [pip, *places[1:]]:
        if place.path in wanted:
            folders = made_folders(one.path for one in others)
            results += put_file(place, wanted[place.path], params, folders, legacy if place is pip else None, moves)
    for place in unwanted.values():
        results += take_file(place, params)
    if "pip" in contents:
        winners = {places[0].path: "it wins in pip 6 and later", legacy.path: "ours wins"}
        winners = {path: who for path, who in winners.items() if os.path.realpath(path) != os.path.realpath(pip.path)}
        results[0]["message"] = results[0]["message"] or note or contradiction(contents["pip"], winners)
    elif "pip" in params["contents"]:
        message = contradiction(params["contents"]["pip"], {places[0].path: "it wins", legacy.path: "it wins"})
        if message:
            results.append(dict(Outcome(pip.path, "unchanged", message=message).told(), tool="pip"))
    return results


def put_file(
    place: Place,
    content: str,
    params: Dict[str, Any],
    folders: FrozenSet[str],
    legacy: Optional[Place] = None,
    moves: bool = False,
) -> List[Dict[str, Any]]:
    """Put settings into one file, and return what happened. With ``moves``, those of the older file come with them.

    ``folders`` are those that were made for the other files.
    """
    check_mode = params["check_mode"]

    def wanted(theirs: Optional[str]) -> Optional[str]:
        old = without_us(legacy.path, INI) if legacy else None
        if place.tool == "pip" and params["exclusive"]:
            # What the user's own file sets replaces what the machine's does.
            for text in (theirs, old, read(GLOBAL_PIP) if params["scope"] == "user" else None):
                check_exclusive(text or "", content, params["exclusive"])
        if moves:
            theirs = with_legacy(theirs, old)
        return content if theirs is None else edit(theirs, parse(content, place.form), place.form)

    def work() -> List[Outcome]:
        outcomes = [put(place.path, place.form, wanted, check_mode, folders)]
        if moves and legacy:
            if without_us(legacy.path, INI) is not None:
                outcomes.append(put(legacy.path, INI, lambda _theirs: None, check_mode))
            else:
                # An earlier call with "use" can have created it.
                removed = take(legacy.path, INI, check_mode)
                outcomes += [removed] if removed.action != "unchanged" else []
        return outcomes

    return told(place, work)


def take_file(place: Place, params: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Take settings of ours out of one file, and return what happened, nothing if there are none."""
    results = told(place, lambda: [take(place.path, place.form, params["check_mode"])])
    return [one for one in results if one["action"] != "unchanged"]


def told(place: Place, work: Callable[[], List[Outcome]]) -> List[Dict[str, Any]]:
    try:
        outcomes = work()
    except (Failed, NotParsed, OSError) as exc:
        outcomes = [Outcome(place.path, "failed", message=reason(exc))]
    return [dict(one.told(), tool=place.tool) for one in outcomes]


def with_legacy(theirs: Optional[str], legacy: Optional[str]) -> Optional[str]:
    """Return the text of today's file with what an older one says and it does not. Raises NotParsed."""
    if theirs is None or legacy is None:
        return theirs if legacy is None else legacy
    known = parse(theirs, INI)
    more = {
        section: {name: value for name, value in keys.items() if name not in known.get(section, {})}
        for section, keys in parse(legacy, INI).items()
    }
    return edit(theirs, {section: keys for section, keys in more.items() if keys}, INI)


def check_exclusive(theirs: str, content: str, names: List[str]) -> None:
    """Raise Failed if a user has set a key that can't be shared."""
    found, ours = parse(theirs, INI).get("global", {}), parse(content, INI).get("global", {})
    for name in names:
        if found.get(name, ours.get(name)) != ours.get(name):
            raise Failed(
                "it sets %s in [global] itself, and pip_client_fallback would replace it: a private index and a public one "
                "side by side let anybody publish a package of the private one's name. Leave this user out, or do without "
                "pip_client_fallback" % name
            )


def contradiction(content: str, winners: Dict[str, str]) -> str:
    """Say which other file that pip reads sets a key of ours to something else. ``winners`` tells by path who then wins."""
    settings = parse(content, INI)
    for path, winner in winners.items():
        try:
            found = parse(read(path) or "", INI)
        except (Failed, OSError, NotParsed):
            return "%s can't be read, and pip reads it too" % path
        names = sorted(n for s in settings for n, v in settings[s].items() if found.get(s, {}).get(n, v) != v)
        if names:
            return "%s sets another %s; %s" % (path, ", ".join(names), winner)
    return ""


def check(params: Dict[str, Any], system: str) -> None:
    """Raise ValueError, with the name of the option, for what can't be done."""
    if params["state"] == "present" and not params["contents"]:
        raise ValueError("contents: it is empty, and state is present")
    for tool, content in params["contents"].items():
        is_for_all = is_global(tool, params["scope"])
        places = global_places(system) if is_for_all else user_places("/", "/", system)
        form = next((place.form for place in places if place.tool == tool), None)
        if form is None:
            raise ValueError(
                "contents: there is no place for settings of %s here (scope is %s)" % (tool, params["scope"])
            )
        try:
            parse(content, form)
        except NotParsed as exc:
            raise ValueError("contents: that of %s: %s" % (tool, exc)) from exc
        if credentials(content) and is_for_all:
            raise ValueError(
                "contents: that of %s has a password, and would be in a file for everybody: set scope to user, or leave %s out"
                % (tool, tool)
            )
    for name, sections in params["overrides"].items():
        if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
            raise ValueError("overrides: those of %s have no sections: write them as {global: {timeout: 30}}" % name)
        try:
            overridden(params["contents"].get("pip", ""), sections)
        except NotParsed as exc:
            raise ValueError("overrides: those of %s: %s" % (name, exc)) from exc
    for name, folder in params["config_homes"].items():
        if not str(folder).startswith("/"):
            raise ValueError("config_homes: that of %s is no absolute path" % name)


def configure(params: Dict[str, Any], system: str) -> List[Dict[str, Any]]:
    """Do it for everybody, and return what happened, file by file. Raises ValueError for users that don't exist."""
    users = choose(ordinary(params, system), params["users"], params["exclude"])
    contents = params["contents"] if params["state"] == "present" else {}
    params = dict(params, contents=contents)
    listed = set(params["users"])
    results: List[Dict[str, Any]] = []

    def work(user: pwd.struct_passwd) -> List[Dict[str, Any]]:
        return configure_user(user, params, system, user.pw_name in listed)

    for user, answer in zip(users, run_as_all(users, work)):
        if isinstance(answer, Failed):
            answer = [dict(Outcome("", "failed", message=str(answer)).told(), tool="")]
        results += [dict(one, name=user.pw_name) for one in answer]
    for place in global_places(system):
        is_wanted = place.tool in contents and is_global(place.tool, params["scope"])
        if is_wanted or params["whole_host"]:
            folders = made_folders(one.path for one in global_places(system)) if is_wanted else frozenset()
            done = put_file(place, contents[place.tool], params, folders) if is_wanted else take_file(place, params)
            results += [dict(one, name=EVERYBODY) for one in done]
    return results


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            # Kept out of the system's log.
            "contents": {"type": "dict", "default": {}, "no_log": True},
            "overrides": {"type": "dict", "default": {}, "no_log": True},
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
    # Not the settings are secret, which a diff is to show, but the credentials in them.
    module.no_log_values.clear()
    for text in [*params["contents"].values(), str(params["overrides"])]:
        module.no_log_values.update(credentials(text))
    system = platform.system()
    try:
        check(params, system)
        done = configure(params, system)
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    told = [{key: one[key] for key in ("name", "tool", "path", "action", "message")} for one in done]
    changed = [one for one in done if one["action"] not in ("unchanged", "failed")]
    result: Dict[str, Any] = {"changed": bool(changed), "users": told}
    if module._diff:
        result["diff"] = [
            {"before_header": one["path"], "after_header": one["path"], "before": one["before"], "after": one["after"]}
            for one in changed
        ]
    failed = ["%s: %s" % (one["name"], one["message"]) for one in told if one["action"] == "failed"]
    if failed and params["errors"] == "fail":
        module.fail_json(msg="%d files or users not done: %s" % (len(failed), "; ".join(failed)), **result)
    for one in told:
        if one["message"]:
            module.warn("%s: %s" % (one["name"], one["message"]))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
