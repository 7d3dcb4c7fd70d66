# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the indexes that a playbook lists, before anything is changed. Private to the collection."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

from ansible_collections.devpi.mirror.plugins.module_utils import _api
from ansible_collections.devpi.mirror.plugins.modules import devpi_index

PYPI = "root/pypi"


def list_from(value: Any) -> list[str]:
    return value.split(",") if isinstance(value, str) else [str(item) for item in value]


# The values of a module's options, from those of variables.
CONVERSIONS: dict[str, Callable[[Any], Any]] = {"list": list_from, "str": str, "int": int}


def check(index: Mapping[str, Any], release: Any) -> dict[str, Any]:
    """Return the settings as devpi 6 stores them. Raises RefusedError if devpi_index would refuse them."""
    name = _api.check_index(str(index["name"]))
    _api.check_ascii(name)
    if name == PYPI and index.get("type") == "private":
        raise _api.RefusedError("This index has the type mirror, which can't be changed.", "Remove type.")
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
    if index.get("upload_time_project") is not None:
        devpi_index.upload_time_project(str(index["upload_time_project"]))
    _api.to_release(int(release), wanted)
    return wanted


class Server:
    """The names of the users and indexes that exist while the listed indexes are created, and that devpi_server_prune retains.

    ``existing`` are the users of a running server, as devpi_user_info returns them, empty if none is running, None if it does
    not respond.
    """

    def __init__(
        self,
        users: Iterable[str],
        indexes: Iterable[str],
        existing: Mapping[str, Mapping[str, Any]] | None,
        is_pruning: bool,
        has_ldap: bool,
    ) -> None:
        listed = {"root", PYPI, *users}
        self.retained = {*listed, *indexes, *(name.split("/")[0] for name in indexes)}
        self.is_pruning = is_pruning
        self.has_ldap = has_ldap
        self.is_running = existing != {}
        present = self.retained if existing is None else {*existing, *indexes_of(existing)}
        self.known = listed | (present & self.retained if is_pruning else present)

    def problem(self, name: str) -> str:
        """Return why a user or an index will not exist."""
        if self.is_pruning and name not in self.retained:
            return "is not listed, and devpi_server_prune would remove it"
        return "does not exist" if self.is_running else "is not listed, and no mirror is running that could have it"

    def missing(self, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
        """Return a message for each user and base of an index that will not exist."""
        owner = name.split("/")[0]
        if owner not in self.known:
            yield f"The user {owner} {self.problem(owner)}. Add it to devpi_server_users."
        for option in devpi_index.ACLS:
            for user in devpi_index.users_of(settings.get(option, [])):
                if user not in self.known and not self.has_ldap:
                    yield f"{option} contains {user}, and this user {self.problem(user)}. Add it to devpi_server_users."
        for base in settings.get("bases", []):
            if base not in self.known:
                yield f"bases contains {base}, and this index {self.problem(base)}. List it before this one."


def indexes_of(users: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    return (name for user in users.values() for name in user["indexes"])


def inherited(name: str, bases: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the indexes from which an index inherits, also through others, by the bases of indexes."""
    found: set[str] = set()
    remaining = [*bases.get(name, ())]
    while remaining:
        base = remaining.pop()
        if base not in found:
            found.add(base)
            remaining += bases.get(base, ())
    return found


def invalid_indexes(
    indexes: Iterable[Mapping[str, Any]],
    users: Iterable[str] | None = None,
    existing: Mapping[str, Mapping[str, Any]] | None = None,
    is_pruning: bool = False,
    release: Any = 6,
    has_ldap: bool = False,
) -> list[str]:
    """Return a message for each index whose settings are invalid, and for each that is listed twice.

    ``users`` are the names of listed users. Users and bases are not checked without them, and without ``existing`` only if
    ``is_pruning``, which is devpi_server_prune. ``release`` is the major version of devpi-server. With
    ``has_ldap``, ACLs can contain all users, as an LDAP server can have them.
    """
    if not isinstance(existing, Mapping):
        # Before ansible-core 2.19, null in a template is an empty text.
        existing = None
    named = [(str(index["name"]).strip("/"), index) for index in indexes]
    server = None
    if users is not None and (existing is not None or is_pruning):
        server = Server(users, [name for name, _index in named], existing, is_pruning, has_ldap)
    messages = []
    names = set()
    bases: dict[str, list[str]] = {}
    for name, index in named:
        if name in names:
            messages.append(f"devpi_server_indexes lists {name} twice: remove one of them.")
        names.add(name)
        try:
            wanted = check(index, release)
        except _api.RefusedError as exc:
            messages.append(f"devpi_server_indexes, {name}: {exc}")
        else:
            bases[name] = wanted.get("bases", [])
            if name in inherited(name, bases):
                messages.append(
                    f"devpi_server_indexes, {name}: bases would make the index inherit from itself. "
                    "Remove the base that is, or inherits from, this index."
                )
            if server is not None:
                messages += [f"devpi_server_indexes, {name}: {message}" for message in server.missing(name, wanted)]
        if server is not None:
            server.known.add(name)
    return messages
