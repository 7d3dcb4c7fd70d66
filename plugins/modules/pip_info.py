#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pip_info
short_description: Tell which index every user's pip installs from
description:
  - Asks C(pip config debug) as each user, in a login shell, so that variables of their environment count too.
  - A virtual environment's own C(pip.conf) is known to that environment alone, and is not told.
extends_documentation_fragment: action_common_attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  users:
    description:
      - The names of users.
    type: list
    elements: str
    default: []
  find_users:
    description:
      - Whether to do this for all ordinary users as well, as the module M(devpi.mirror.pip_config) finds them.
    type: bool
    default: false
  uid_min:
    description:
      - The lowest number of an ordinary user. By default that of C(/etc/login.defs).
    type: int
  uid_max:
    description:
      - The highest number of an ordinary user. By default that of C(/etc/login.defs).
    type: int
  exclude:
    description:
      - The names of users to leave out, also when they are in O(users).
    type: list
    elements: str
    default: []
  index_url:
    description:
      - The index that they should install from. What contradicts it is told.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: See where everybody's packages come from
  devpi.mirror.pip_info:
    find_users: true
    index_url: http://127.0.0.1:3141/root/pypi/+simple/
  become: true
"""

RETURN = r"""
users:
  description: Each user, by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The user.
      type: str
    index:
      description: The index that pip installs from, V(null) if it is pip's default or is not known.
      type: str
    source:
      description: What it is set in, a file or a variable. V(there is no pip) if that is so.
      type: str
    problems:
      description: What contradicts O(index_url), with what can be done, or why it is not known.
      type: list
      elements: str
  sample:
    - {name: ada, index: "http://127.0.0.1:3141/root/pypi/+simple/", source: /home/ada/.config/pip/pip.conf, problems: []}
"""

import platform
import pwd
import re
import subprocess
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils._accounts import choose, ordinary
from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed, run_as_all
from ansible_collections.devpi.mirror.plugins.module_utils._edit import mask

# Whichever pip the user's own shell would find, and else the one that new virtual environments get, which can be run as it is.
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
LIMIT = 20
# From what pip reads first to what wins.
LEVELS = ("global", "user", "site", "env", "env_var")


class Setting(NamedTuple):
    """A setting of pip: its level (as pip calls it), the file or variable that it is in, its key and value."""

    level: str
    source: str
    key: str
    value: str


def settings(said: str) -> List[Setting]:
    """Return the settings that ``pip config debug`` has printed.

    pip prints a line for each level, then below it the files, each followed by all that the level sets.
    """
    found: List[Setting] = []
    level, source = LEVELS[0], ""
    for line in said.splitlines():
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


def effective(found: List[Setting], name: str) -> Optional[Setting]:
    """Return the setting of that name that ``pip install`` goes by. A variable wins, then what is for ``install`` alone."""

    def rank(setting: Setting) -> Tuple[bool, bool, int]:
        return setting.level == "env_var", setting.key.startswith("install."), LEVELS.index(setting.level)

    candidates = [setting for setting in found if setting.key in ("global." + name, "install." + name)]
    # Under each file of a level pip prints all that the level sets, and of these files the last wins.
    return max(reversed(candidates), key=rank, default=None)


def tell(name: str, said: Any, index_url: str) -> Dict[str, Any]:
    """Return what there is to tell of a user, from what pip has printed, or from the Failed that stands for it."""
    told: Dict[str, Any] = {"name": name, "index": None, "source": "", "problems": []}
    if isinstance(said, Failed):
        told["problems"].append("It is not known: %s." % said)
        return told
    if not said:
        told["source"] = "there is no pip"
        return told
    found = settings(said)
    index = effective(found, "index-url")
    if index:
        told.update(index=mask(index.value), source=index.source)
    if not index_url:
        return told
    if not index:
        told["problems"].append("pip asks its default index: run devpi.mirror.site, or see pip_client_exclude_users.")
    elif index.value.rstrip("/") != index_url.rstrip("/"):
        told["problems"].append(
            "%s has pip install from %s: take index-url out there." % (index.source, mask(index.value))
            if index.level != "env_var"
            else "The variable %s has pip install from %s: unset it." % (index.source, mask(index.value))
        )
    for other, what in (("extra-index-url", "asks another index too"), ("no-index", "has pip ask no index")):
        setting = effective(found, other)
        if setting and setting.value.lower() not in ("false", "0", "no", "off", ""):
            told["problems"].append("%s %s (%s = %s)." % (setting.source, what, other, mask(setting.value)))
    return told


def ask(user: pwd.struct_passwd) -> str:
    """Return what ``pip config debug`` prints for a user, nothing if there is no pip. Runs with the rights of that user."""
    env = {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["/bin/sh", "-lc", COMMAND],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=LIMIT,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


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
        users = choose(ordinary(params, platform.system()), params["users"], params["exclude"])
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    said = run_as_all(users, ask, limit=LIMIT + 5)
    told = [tell(user.pw_name, one, params["index_url"]) for user, one in zip(users, said)]
    module.exit_json(changed=False, users=told)


if __name__ == "__main__":
    main()
