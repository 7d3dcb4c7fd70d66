#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_user_info
short_description: List the users of a devpi server
description:
  - Returns the users of a devpi server with the names of their indexes.
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  name:
    description:
      - The user to return. All users by default.
    type: str
attributes:
  diff_mode:
    support: none
seealso:
  - module: devpi.mirror.devpi_user
"""

EXAMPLES = r"""
- name: List all users
  devpi.mirror.devpi_user_info:
    url: http://127.0.0.1:3141
  register: devpi
"""

RETURN = r"""
users:
  description: The users, by name. Empty if O(name) does not exist.
  returned: success
  type: dict
  sample: {"release-bot": {"email": "release@example.com", "indexes": ["release-bot/dev"]}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi


def users(api: _api.Api, name: str | None) -> dict[str, Any]:
    """Return all users, or one."""
    if name is None:
        found = api.users()
    else:
        user = api.find(f"/{_api.quoted(_api.check_user(name))}")
        found = {} if user is None else {name: user}
    return {
        key: {**_api.readable_user(user), "indexes": sorted(f"{key}/{index}" for index in user.get("indexes", {}))}
        for key, user in found.items()
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={**_devpi.CONNECTION_OPTIONS, "name": {"type": "str"}},
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    with _api.failing(module):
        found = users(_api.api_from(module.params), module.params["name"])
    module.exit_json(changed=False, users=found)


if __name__ == "__main__":
    main()
