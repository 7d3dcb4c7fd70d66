#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pip_info
short_description: Report the package index of each user's pip
description:
  - Runs C(pip config debug) as each user in a login shell, so that environment variables are included.
  - The C(pip.conf) of a virtual environment applies to that environment only, and is not included.
extends_documentation_fragment: devpi.mirror.attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  users:
    description:
      - The names of users to check. Each must exist.
    type: list
    elements: str
    default: []
  find_users:
    description:
      - Whether to also check all ordinary users, as in M(devpi.mirror.pip_config).
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
      - The names of users who are not checked. It takes precedence over O(users).
    type: list
    elements: str
    default: []
  index_url:
    description:
      - The URL of the index that pip is expected to use. Settings that contradict it are reported.
    type: str
    default: ""
attributes:
  diff_mode:
    support: none
seealso:
  - module: devpi.mirror.pip_config
"""

EXAMPLES = r"""
- name: Check that the pip of all users installs from the mirror
  devpi.mirror.pip_info:
    find_users: true
    index_url: http://127.0.0.1:3141/root/pypi/+simple/
  become: true
"""

RETURN = r"""
users:
  description: The users, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the user.
      type: str
    index:
      description: The index that pip installs from, V(null) if it is pip's default or unknown.
      type: str
    source:
      description: The file or the variable that sets the index. V(pip is not installed) if the user has no pip.
      type: str
    problems:
      description: The settings that contradict O(index_url), each with its solution, or the reason why they are unknown.
      type: list
      elements: str
  sample:
    - {name: ada, index: "http://127.0.0.1:3141/root/pypi/+simple/", source: /home/ada/.config/pip/pip.conf, problems: []}
"""

import platform
import pwd
import re
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils._accounts import regular_uids, select_users
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError, run_as_all
from ansible_collections.devpi.mirror.plugins.module_utils._command import execute
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask

# The pip that the user's shell finds, or else the one that new virtual environments get, which can run from its wheel.
COMMAND = """
for pip in pip pip3 'python3 -m pip'; do
    $pip config debug 2>/dev/null && exit 0
done
folder=$(python3 -c 'import ensurepip, os; print(os.path.dirname(ensurepip.__file__))')
for wheel in "$folder"/_bundled/pip-*.whl /usr/share/python-wheels/pip-*.whl; do
    python3 "$wheel/pip" config debug 2>/dev/null && exit 0
done
exit 9
"""
# Seconds per user.
TIMEOUT = 20
# In the order of precedence, the highest last.
LEVELS = ("global", "user", "site", "env", "env_var")


class Setting(NamedTuple):
    """A setting of pip: its level (as pip calls it), the file or the variable that sets it, its key and its value."""

    level: str
    source: str
    key: str
    value: str


def parse_settings(output: str) -> list[Setting]:
    """Return the settings from the output of ``pip config debug``.

    It has a line for each level, followed by the files of the level, each followed by all settings of the level.
    """
    found: list[Setting] = []
    level, source = LEVELS[0], ""
    for line in output.splitlines():
        heading = re.match(r"(\w+):$", line)
        file = re.match(r"\s+(.+), exists: (?:True|False)$", line)
        key = re.match(r"\s+([\w:-]+\.[\w-]+): (.*)$", line)
        variable = re.match(r"\s+PIP_(\w+)=(['\"]?)(.*)\2$", line)
        if heading and heading[1] in LEVELS:
            level = heading[1]
        elif file:
            source = file[1]
        elif variable:
            name = variable[1].lower().replace("_", "-")
            found.append(Setting("env_var", "PIP_" + variable[1], "global." + name, variable[3]))
        elif key:
            found.append(Setting(level, source, key[1], key[2]))
    return found


def effective(settings: list[Setting], name: str) -> Setting | None:
    """Return the setting of that name that ``pip install`` uses: a variable, then a setting for ``install`` only."""

    def precedence(setting: Setting) -> tuple[bool, bool, int]:
        return setting.level == "env_var", setting.key.startswith("install."), LEVELS.index(setting.level)

    candidates = [setting for setting in settings if setting.key in ("global." + name, "install." + name)]
    # pip prints all settings of a level below each of its files. The last file takes precedence.
    return max(reversed(candidates), key=precedence, default=None)


def contradictions(settings: list[Setting], index_url: str) -> list[str]:
    """Return the problems of settings that contradict the expected index."""
    problems = []
    index = effective(settings, "index-url")
    if not index:
        problems.append("pip uses its default index: run devpi.mirror.site, or check pip_client_exclude_users.")
    elif index.value.rstrip("/") != index_url.rstrip("/"):
        problems.append(
            f"The variable {index.source} sets another index, {mask(index.value)}: unset it."
            if index.level == "env_var"
            else f"{index.source} sets another index, {mask(index.value)}: run devpi.mirror.site with "
            "the variables of the deployment, or remove its index-url."
        )
    for name, description in (("extra-index-url", "adds another index"), ("no-index", "disables all indexes")):
        setting = effective(settings, name)
        if setting and setting.value.lower() not in ("false", "0", "no", "off", ""):
            problems.append(f"{setting.source} {description} ({name} = {mask(setting.value)}).")
    return problems


def user_values(name: str, output: Any, index_url: str) -> dict[str, Any]:
    """Return the values of a user. ``output`` is that of pip, or the OperationError that prevented it."""
    values: dict[str, Any] = {"name": name, "index": None, "source": "", "problems": []}
    if isinstance(output, OperationError):
        return dict(values, problems=[f"Could not run pip: {output}."])
    if not output:
        return dict(values, source="pip is not installed")
    settings = parse_settings(output)
    index = effective(settings, "index-url")
    if index:
        values.update(index=mask(index.value), source=index.source)
    if index_url:
        values["problems"] = contradictions(settings, index_url)
    return values


def run_pip(user: pwd.struct_passwd) -> str:
    """Return the output of ``pip config debug``, empty if pip is not installed. Runs with the privileges of that user."""
    env = {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    code, output, _errors = execute(["/bin/sh", "-lc", COMMAND], env, TIMEOUT)
    return output if code == 0 else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str", "default": []},
            "find_users": {"type": "bool", "default": False},
            "uid_min": {"type": "int"},
            "uid_max": {"type": "int"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "index_url": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        users = select_users(regular_uids(params, platform.system()), params["users"], params["exclude"])
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    outputs = run_as_all(users, run_pip, timeout=TIMEOUT + 5)
    values = [user_values(user.pw_name, output, params["index_url"]) for user, output in zip(users, outputs)]
    module.exit_json(changed=False, users=values)


if __name__ == "__main__":
    main()
