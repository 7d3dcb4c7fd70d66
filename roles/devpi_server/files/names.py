"""What devpi calls things that have another name from 7.0 on. Everybody else knows those of 6, and asks here."""

from __future__ import annotations

from typing import Any, Mapping

from devpi_server import __version__

MAJOR = int(__version__.split(".")[0])

# Options, as variables of the environment, and settings of indexes. What is None is always on, or gone.
NEW: dict[str, str | None] = {
    "DEVPISERVER_MIRROR_CACHE_EXPIRY": "DEVPISERVER_REMOTE_REFRESH_DELAY",
    "DEVPISERVER_ENABLE_CORE_METADATA": None,
    "DEVPISERVER_KEYFS_CACHE_SIZE": None,
    "mirror_no_project_list": "remote_no_project_list",
    "mirror_provides_core_metadata": None,
    "mirror_url": "remote_url",
}

# The file of its database, and the table that has its changes by number.
DATABASE, CHANGES = (".sqlite", "changelog") if MAJOR < 7 else (".sqlite_alchemy", "ulid_changelog")


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options or settings with the names that this devpi knows, without those that it does not know."""
    if MAJOR < 7:
        return dict(values)
    names = {name: NEW.get(name, name) for name in values}
    return {new: values[name] for name, new in names.items() if new}
