# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the users that a playbook lists, before anything is changed. Private to the collection."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.devpi.mirror.plugins.module_utils import _api
from ansible_collections.devpi.mirror.plugins.modules import devpi_user

SECRETS = ("password", "pwhash")


def check(user: Mapping[str, Any]) -> None:
    """Raise RefusedError if devpi_user would refuse a user."""
    given = {option: str(user[option]) for option in SECRETS if user.get(option) is not None}
    params = {"name": str(user["name"]), "state": "present", **dict.fromkeys(SECRETS), **given}
    devpi_user.check(params)
    _api.check_ascii(params["name"])
    if len(given) > 1:
        raise _api.RefusedError("It has a password and a pwhash.", "Remove one of them.")
    if params["name"] == "root" and given:
        raise _api.RefusedError(
            f"{', '.join(given)} of root can't be set here.",
            "Remove it, and set the password of root with devpi_server_root_password.",
        )


def invalid_users(users: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a message for each user that is invalid, and for each that is listed twice. Messages contain no secrets."""
    messages = []
    names = set()
    for user in users:
        name = str(user["name"])
        if name in names:
            messages.append(f"devpi_server_users lists {name} twice: remove one of them.")
        names.add(name)
        try:
            check(user)
        except _api.RefusedError as exc:
            messages.append(f"devpi_server_users, {name}: {exc}")
    return messages
