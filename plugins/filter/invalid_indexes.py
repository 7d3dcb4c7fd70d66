# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_indexes. Its documentation is in invalid_indexes.yml."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, Mapping

from ansible_collections.devpi.mirror.plugins.module_utils import _api
from ansible_collections.devpi.mirror.plugins.modules import devpi_index

PYPI = "root/pypi"


def list_from(value: Any) -> list[str]:
    return value.split(",") if isinstance(value, str) else [str(item) for item in value]


# The values of a module's options, from those of variables.
CONVERSIONS: dict[str, Callable[[Any], Any]] = {"list": list_from, "str": str, "int": int}


def check(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as devpi stores them. Raises RefusedError if devpi_index would refuse them."""
    name = _api.check_index(str(index["name"]))
    if name == PYPI and index.get("mirror_url") is not None:
        raise _api.RefusedError(
            "mirror_url of this index is set by devpi_server_upstream_url.", "Set that variable, and remove mirror_url."
        )
    settings: dict[str, Any] = dict.fromkeys(devpi_index.SETTINGS)
    for option, spec in devpi_index.SETTINGS.items():
        if index.get(option) is not None:
            settings[option] = CONVERSIONS.get(spec["type"], lambda value: value)(index[option])
    wanted = devpi_index.wanted_settings(settings)
    kind = index.get("type") or ("mirror" if name == PYPI else "private")
    devpi_index.check_type(kind, wanted)
    if name != PYPI:
        devpi_index.check_new(kind, wanted)
    return wanted


def missing(
    name: str, settings: Mapping[str, Any], indexes: Iterable[str], users: Iterable[str], is_running: bool
) -> Iterator[str]:
    """Return a message for each user and base of an index that is not one of ``users`` and ``indexes``."""
    state = "does not exist" if is_running else "is not listed, and no mirror is running that could have it"
    owner = name.split("/")[0]
    if owner not in users:
        yield f"The user {owner} {state}. Add it to devpi_server_users."
    for option in devpi_index.ACLS:
        for user in devpi_index.users_of(settings.get(option, [])):
            if user not in users:
                yield f"{option} contains {user}, and this user {state}. Add it to devpi_server_users."
    for base in settings.get("bases", []):
        if base not in indexes:
            yield f"bases contains {base}, and this index {state}. List it before this one."


def invalid_indexes(
    indexes: Iterable[Mapping[str, Any]],
    users: Iterable[str] | None = None,
    existing: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Return a message for each index whose settings are invalid, and for each that is listed twice.

    ``users`` are the names of listed users, and ``existing`` the users of a running server, as devpi_user_info returns them,
    empty if none is running. Without these, users and bases are not checked.
    """
    messages = []
    names = []
    server = existing or {}
    known_users = {"root", *(users or ()), *server}
    known_indexes = {PYPI, *(name for user in server.values() for name in user["indexes"])}
    for index in indexes:
        name = str(index["name"]).strip("/")
        if name in names:
            messages.append(f"devpi_server_indexes lists {name} twice: remove one of them.")
        names.append(name)
        try:
            wanted = check(index)
        except _api.RefusedError as exc:
            messages.append(f"devpi_server_indexes, {name}: {exc}")
        else:
            if users is not None and existing is not None:
                found = missing(name, wanted, known_indexes, known_users, bool(server))
                messages += [f"devpi_server_indexes, {name}: {message}" for message in found]
        known_indexes.add(name)
    return messages


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"invalid_indexes": invalid_indexes}
