#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_user
short_description: Create, change or remove a user of a devpi server
description:
  - Creates, changes or removes a user. Settings that are not given remain as they are.
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  name:
    description:
      - The name of the user, with letters, digits and the characters C(-.@_).
    type: str
    required: true
  state:
    description:
      - Whether the user exists. V(absent) also removes the user's indexes. A user with a non-volatile index is not removed, so
        that released packages are not lost by accident.
    type: str
    choices: [absent, present]
    default: present
  password:
    description:
      - The password of the user. A new user without O(password) and O(pwhash) can't log in.
      - A user can change the own password, with O(name) the same as O(url_username). If devpi rejects O(url_password) then, the
        module logs in with O(password), so that the task can run again after the change.
    type: str
  update_password:
    description:
      - With V(always), the module logs in with O(password), and changes the user's password if that fails.
      - With V(on_create), only a new user gets the password.
    type: str
    choices: [always, on_create]
    default: always
  pwhash:
    description:
      - The Argon2 hash of a new user's password, such as C($argon2id$v=19$...). devpi does not return hashes, so that of an
        existing user is not changed.
    type: str
  email:
    description:
      - The email address of the user. All users can read it.
    type: str
  title:
    description:
      - A short description of the user.
    type: str
  description:
    description:
      - A long description of the user.
    type: str
  custom_data:
    description:
      - Any data, which devpi stores and returns.
    type: raw
attributes:
  diff_mode:
    support: full
    details:
      - Passwords and hashes are not part of the differences, only whether the password changes.
seealso:
  - module: devpi.mirror.devpi_index
  - module: devpi.mirror.devpi_user_info
"""

EXAMPLES = r"""
- name: Create a user who uploads releases
  devpi.mirror.devpi_user:
    name: release-bot
    password: "{{ vault_release_bot_password }}"
    email: release@example.com
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"

- name: Change root's password, which is empty after devpi-init
  devpi.mirror.devpi_user:
    name: root
    password: "{{ vault_devpi_root_password }}"
    url_username: root
    url_password: ""

- name: Remove a user
  devpi.mirror.devpi_user:
    name: ada
    state: absent
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"
"""

RETURN = r"""
user:
  description: The user, without indexes and secrets. V(null) if it does not exist.
  returned: success
  type: dict
  sample: {"email": "release@example.com"}
password_changed:
  description: Whether the password was changed, or would be in check mode.
  returned: success
  type: bool
"""

import re
import secrets
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi

ALWAYS = "always"
SETTINGS: dict[str, dict[str, Any]] = {
    "email": {"type": "str"},
    "title": {"type": "str"},
    "description": {"type": "str"},
    "custom_data": {"type": "raw"},
}


def readable(user: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if user is None else _api.readable_user(user)


def check(params: dict[str, Any]) -> None:
    """Raise RefusedError for options that devpi would reject, or that contradict each other."""
    _api.check_user(params["name"])
    for option in ("password", "pwhash"):
        if params["state"] == "absent" and params[option] is not None:
            raise _api.RefusedError(f"A user with state absent has no {option}.", f"Remove {option}.")
        if params[option] == "":
            raise _api.RefusedError(
                f"{option} is empty.", "Set it, or remove the option to create a user who can't log in."
            )
    # With another hash, each login of the user would be an internal error of devpi.
    if params["pwhash"] and not re.fullmatch(r"\$argon2(i|d|id)\$[!-~]+\$[!-~]+", params["pwhash"]):
        raise _api.RefusedError("pwhash is not a hash of Argon2.", "Use the form $argon2id$v=19$...")
    if params["state"] == "absent" and params["name"] == "root":
        raise _api.RefusedError("The user root can't be removed.", "Use another name.")


def api_of_user(params: dict[str, Any]) -> _api.Api:
    """Return the API for the user and the password of the task."""
    login = {"url_username": params["name"], "url_password": params["password"]}
    return _api.api_from({**params, **login}, is_changing=True)


def has_password(params: dict[str, Any]) -> bool:
    """Return whether the user can log in with the password."""
    # Not by POST /+login, which replaces a hash with other costs than the default ones, also in check mode.
    return api_of_user(params).is_authenticated()


def connect(params: dict[str, Any]) -> _api.Api:
    """Return the API. Raises RefusedError if the credentials are wrong."""
    try:
        return _api.log_in(params)
    except _api.RefusedError:
        is_own = params["name"] == params["url_username"] and params["password"] is not None
        if is_own and has_password(params):
            # An earlier run has changed the password.
            return api_of_user(params)
        raise


def remove(api: _api.Api, name: str, user: dict[str, Any], check_mode: bool) -> None:
    """Remove a user. Raises RefusedError."""
    indexes = user.get("indexes", {})
    released = sorted(f"{name}/{index}" for index, settings in indexes.items() if not settings.get("volatile", True))
    if released:
        raise _api.RefusedError(
            f"The user {name} can't be removed, because of the non-volatile indexes {', '.join(released)}.",
            "Remove them first, with devpi_index and force.",
        )
    if not check_mode:
        api.change(f"remove the user {name}", "DELETE", f"/{_api.quoted(name)}")


def apply(module: AnsibleModule, api: _api.Api) -> tuple[dict[str, Any] | None, dict[str, Any] | None, bool]:
    """Make the user as wanted, and return it before and after that, and whether the password was changed."""
    params = module.params
    name = params["name"]
    path = f"/{_api.quoted(name)}"
    user = api.find(path)
    before = readable(user)
    if params["state"] == "absent":
        if user is not None:
            remove(api, name, user, module.check_mode)
        return before, None, False
    settings = {key: params[key] for key in SETTINGS if params[key] is not None}
    if user is None:
        # devpi requires a password, and its import replaces null with the empty one.
        is_random = params["password"] is None and params["pwhash"] is None
        body = {"password": secrets.token_urlsafe(32) if is_random else params["password"], **settings}
        if params["pwhash"]:
            body["pwhash"] = params["pwhash"]
        is_new_password = params["password"] is not None or params["pwhash"] is not None
        if not module.check_mode:
            api.change(f"create the user {name}", "PUT", path, body)
    else:
        # devpi stores no empty values.
        body = {key: value for key, value in settings.items() if (user.get(key) or None) != (value or None)}
        is_new_password = (
            params["password"] is not None and params["update_password"] == ALWAYS and not has_password(params)
        )
        if is_new_password:
            body["password"] = params["password"]
        if body and not module.check_mode:
            api.change(f"change the user {name}", "PATCH", path, body)
    after = readable({**(user or {}), **settings})
    if body and not module.check_mode:
        if is_new_password and name == params["url_username"]:
            api = api_of_user(params)
        verify(api, params, after, is_new_password)
    return before, after, is_new_password


def verify(api: _api.Api, params: dict[str, Any], after: dict[str, Any] | None, is_new_password: bool) -> None:
    """Raise RefusedError if devpi has ignored a part of a change."""
    name = params["name"]
    if readable(api.find(f"/{_api.quoted(name)}")) != after:
        raise _api.RefusedError(
            f"devpi accepted the settings of the user {name}, but did not store all of them.",
            "Check with devpi_user_info which are missing.",
            is_changed=True,
        )
    is_checked = is_new_password and params["password"] is not None
    if is_checked and not has_password(params):
        raise _api.RefusedError(
            f"devpi accepted the password of the user {name}, but does not accept a login with it.",
            "Check whether a plugin of devpi authenticates this user, such as devpi-ldap.",
            is_changed=True,
        )


def difference(user: dict[str, Any] | None, is_new_password: bool) -> dict[str, Any]:
    """Return the user for the diff, with the fact that the password changes in place of the password."""
    return {**(user or {}), **({"password": "(changed)"} if is_new_password else {})}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_devpi.CONNECTION_OPTIONS,
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "password": {"type": "str", "no_log": True},
            "update_password": {
                "type": "str",
                "choices": [ALWAYS, "on_create"],
                "default": ALWAYS,
                "no_log": False,
            },
            "pwhash": {"type": "str", "no_log": True},
            **SETTINGS,
        },
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        mutually_exclusive=[("password", "pwhash")],
        supports_check_mode=True,
    )
    with _api.failing(module):
        check(module.params)
        before, after, is_new_password = apply(module, connect(module.params))
    result: dict[str, Any] = {
        "changed": before != after or is_new_password,
        "user": after,
        "password_changed": is_new_password,
    }
    if module._diff:
        result["diff"] = {"before": difference(before, False), "after": difference(after, is_new_password)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
