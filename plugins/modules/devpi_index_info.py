#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_index_info
short_description: List the indexes of a devpi server
description:
  - Returns the settings of the indexes of a devpi server, with the names of M(devpi.mirror.devpi_index).
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  name:
    description:
      - The index to return, as C(user/index). All indexes by default.
    type: str
  projects:
    description:
      - Whether to also return the names of the projects of a private index. Requires O(name).
    type: bool
    default: false
attributes:
  diff_mode:
    support: none
seealso:
  - module: devpi.mirror.devpi_index
"""

EXAMPLES = r"""
- name: List the projects of an index
  devpi.mirror.devpi_index_info:
    name: acme/stable
    projects: true
  register: devpi
"""

RETURN = r"""
indexes:
  description: The settings of the indexes, by name. Empty if O(name) does not exist.
  returned: success
  type: dict
  sample: {"acme/stable": {"type": "private", "bases": ["root/pypi"], "volatile": false}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi


def all_indexes(api: _api.Api) -> dict[str, Any]:
    """Return the settings of all indexes, by name."""
    return {
        f"{user}/{index}": _api.described(api.from_server(settings))
        for user, found in api.users().items()
        for index, settings in found.get("indexes", {}).items()
    }


def one_index(api: _api.Api, name: str, has_projects: bool) -> dict[str, Any]:
    """Return the settings of an index by its name, empty if it does not exist."""
    path = _api.index_path(name)
    found = api.find(f"{path}?no_projects=")
    if found is None:
        return {}
    settings = _api.described(api.from_server(found))
    if has_projects and settings["type"] == "private":
        settings["projects"] = sorted(api.call("GET", path)["projects"])
    return {name: settings}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_devpi.CONNECTION_OPTIONS,
            "name": {"type": "str"},
            "projects": {"type": "bool", "default": False},
        },
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    name = module.params["name"]
    if module.params["projects"] and not name:
        module.fail_json(msg="projects requires name. Set name to that of an index, such as acme/stable.")
    with _api.failing(module):
        api = _api.api_from(module.params)
        found = one_index(api, _api.check_index(name), module.params["projects"]) if name else all_indexes(api)
    module.exit_json(changed=False, indexes=found)


if __name__ == "__main__":
    main()
