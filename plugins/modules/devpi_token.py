#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_token
short_description: Create or delete a token of a devpi user
description:
  - Creates or deletes tokens, which clients use in place of a password and which can be restricted. A token never permits to
    change users or tokens.
  - A token is identified by its user and its restrictions. devpi returns its secret at creation only, so only the run that
    creates a token has RV(token).
  - Requires the plugin C(devpi-tokens) on the server, which the image of this collection has. Version 1.1.0 of the plugin
    supports devpi-server 6 and 7.
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  user:
    description:
      - The user whose token it is. O(url_username) must be root, or a user whom devpi's C(--restrict-modify) names. On a server
        without C(--restrict-modify), which the image of this collection sets, it can also be the same user.
      - O(url_password) must be a password, not a token.
    type: str
    required: true
  state:
    description:
      - Whether a token with these restrictions exists. V(absent) deletes all of them, and so also those derived from them.
    type: str
    choices: [absent, present]
    default: present
  allowed:
    description:
      - The permissions of the token. Without this option, it has all that its user has.
      - A token that has both V(pkg_read) and V(upload) can copy releases of all projects to all indexes to which its user may
        upload, as devpi-tokens does not compare them with O(indexes) and O(projects).
    type: list
    elements: str
    choices:
      - del_entry
      - del_project
      - del_verdata
      - index_create
      - index_delete
      - index_modify
      - pkg_read
      - toxresult_upload
      - upload
  indexes:
    description:
      - The indexes for which the token is valid, as C(user/index). All indexes without this option.
    type: list
    elements: str
  projects:
    description:
      - The projects for which the token is valid. All projects without this option.
    type: list
    elements: str
  expires:
    description:
      - When the token expires. An ISO 8601 date or time, in UTC unless it has an offset, a number of seconds since 1970, or
        V(never). More than a year and V(never) require O(url_username) to be root, or one of those that C(--restrict-modify)
        names.
      - Without this option, a new token expires after a year, and the expiration does not identify a token. An expired token
        counts as missing, so that a new one is created.
    type: str
attributes:
  check_mode:
    details:
      - The user need not exist in check mode, as an earlier task may create it.
  diff_mode:
    support: full
    details:
      - Secrets are not part of the differences.
notes:
  - Set C(no_log) on the task, as RV(token) is a secret.
seealso:
  - module: devpi.mirror.devpi_user
  - module: devpi.mirror.devpi_package
"""

EXAMPLES = r"""
- name: Create a token that uploads a project
  devpi.mirror.devpi_token:
    user: release-bot
    allowed: [upload]
    indexes: [acme/stable]
    projects: [acme-client]
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"
  register: created
  no_log: true

- name: Delete the token
  devpi.mirror.devpi_token:
    user: release-bot
    state: absent
    allowed: [upload]
    indexes: [acme/stable]
    projects: [acme-client]
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"
"""

RETURN = r"""
token:
  description:
    - The secret of the new token. Clients use it as password, with the name of its user.
  returned: if a token was created, not in check mode
  type: str
tokens:
  description:
    - The tokens with these restrictions, by their IDs. Empty in check mode if one would be created.
  returned: success
  type: dict
  sample: {"n7zLwtnr": ["allowed=upload", "expires=1827470613", "indexes=acme/stable", "projects=acme-client"]}
"""

import re
import time
from datetime import datetime, timezone
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi, _distribution

ALLOWED = (
    "del_entry",
    "del_project",
    "del_verdata",
    "index_create",
    "index_delete",
    "index_modify",
    "pkg_read",
    "toxresult_upload",
    "upload",
)
NEVER = "never"


def expiration(text: str) -> str:
    """Return the value of the restriction. Raises RefusedError."""
    if text == NEVER or (text.isascii() and text.isdigit()):
        return text
    try:
        # Python before 3.11 does not accept Z.
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as exc:
        raise _api.RefusedError(
            f"expires is {text!r}.", "Set it to a date such as 2027-01-31, a number of seconds since 1970, or never."
        ) from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return str(int(moment.timestamp()))


def is_expired(expires: str) -> bool:
    return expires != NEVER and int(expires) <= time.time()


def wanted_restrictions(params: dict[str, Any]) -> dict[str, list[str]]:
    """Return the restrictions that are given, with the form in which devpi stores them. Raises RefusedError and ValueError."""
    found: dict[str, list[str]] = {}
    forms: dict[str, Callable[[str], str]] = {
        "allowed": str,
        "indexes": lambda name: _api.check_index(name, "indexes"),
        "projects": _distribution.normalized,
    }
    for name, form in forms.items():
        if params[name] is None:
            continue
        if not params[name]:
            raise _api.RefusedError(
                f"{name} is empty, which permits nothing.", "Name at least one, or remove it to permit all."
            )
        found[name] = sorted({form(value) for value in params[name]})
        if any("," in value for value in found[name]):
            raise _api.RefusedError(f"{name} has a value with a comma, which devpi-tokens can't store.", "Use a list.")
    return found


def read_restrictions(lines: list[str]) -> dict[str, list[str]]:
    """Return the restrictions of a token of the server."""
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _separator, value = line.partition("=")
        found.setdefault(name, []).extend(value.split(","))
    return found


def is_match(lines: list[str], wanted: dict[str, list[str]], expires: str | None, is_valid: bool) -> bool:
    """Return whether a token has the restrictions that are wanted. With ``is_valid``, an expired token has not."""
    found = read_restrictions(lines)
    found_expires = found.pop("expires", [NEVER])[0]
    if "projects" in found:
        found["projects"] = [re.sub(r"[-_.]+", "-", name).lower() for name in found["projects"]]
    if {name: sorted(set(values)) for name, values in found.items()} != wanted:
        return False
    if expires is not None and found_expires != expires:
        return False
    return not (is_valid and is_expired(found_expires))


def list_tokens(api: _api.Api, user: str) -> dict[str, list[str]]:
    """Return the restrictions of a user's tokens, by their IDs. Raises RefusedError."""
    path = f"/{_api.quoted(user)}"
    found = api.find(f"{path}/+tokens")
    if found is None:
        raise _api.RefusedError(
            "The server has no tokens: its plugin devpi-tokens is not installed.",
            "Install devpi-tokens 1.1.0 or later next to devpi-server.",
        )
    return {token_id: sorted(info.get("restrictions", [])) for token_id, info in found["tokens"].items()}


def apply(module: AnsibleModule, api: _api.Api) -> dict[str, Any]:
    """Make the tokens as wanted, and return the result. Raises RefusedError, ApiError, ProbeError and ValueError."""
    params = module.params
    user = params["user"]
    wanted = wanted_restrictions(params)
    expires = None if params["expires"] is None else expiration(params["expires"])
    is_present = params["state"] == "present"
    if is_present and expires is not None and is_expired(expires):
        raise _api.RefusedError(f"expires is {params['expires']}, which is in the past.", "Set it to a later time.")
    path = f"/{_api.quoted(user)}"
    tokens: dict[str, list[str]] = {}
    if api.find(path) is not None:
        tokens = list_tokens(api, user)
    elif is_present and not module.check_mode:
        raise _api.RefusedError(f"The user {user} does not exist.", "Create it first, with devpi_user.")
    before = {token_id: lines for token_id, lines in tokens.items() if is_match(lines, wanted, expires, is_present)}
    result: dict[str, Any] = {"changed": bool(before) != is_present, "tokens": before if is_present else {}}
    after: Any = result["tokens"]
    if is_present and not before:
        restrictions: dict[str, Any] = dict(wanted)
        if expires is not None:
            restrictions["expires"] = expires
        after = {
            "new token": [
                f"{name}={value if isinstance(value, str) else ','.join(value)}"
                for name, value in sorted(restrictions.items())
            ]
        }
        if not module.check_mode:
            result["token"] = api.call("POST", f"{path}/+token-create", restrictions)["token"]
            after = {token_id: lines for token_id, lines in list_tokens(api, user).items() if token_id not in tokens}
            result["tokens"] = after
    elif not is_present and not module.check_mode:
        for token_id in before:
            api.call("DELETE", f"{path}/+tokens/{_api.quoted(token_id)}")
    if module._diff:
        result["diff"] = {"before": before, "after": after}
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_devpi.CONNECTION_OPTIONS,
            "user": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "allowed": {"type": "list", "elements": "str", "choices": list(ALLOWED)},
            "indexes": {"type": "list", "elements": "str"},
            "projects": {"type": "list", "elements": "str"},
            "expires": {"type": "str"},
        },
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    with _api.failing(module):
        api = _api.log_in(module.params)
        action = f"manage the tokens of {module.params['user']}"
        remedy = (
            "Use the name and the password, not a token, of root or of a user whom --restrict-modify names. Without this "
            "option of the server, users can manage their own tokens, for up to a year."
        )
        with _api.permitted(module.params["url_username"], action, remedy):
            result = apply(module, api)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
