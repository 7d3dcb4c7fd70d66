# SPDX-License-Identifier: GPL-3.0-or-later
"""All differences between the releases of devpi-server. The rest of the package uses the names of devpi 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devpi_server import __version__
from devpi_server.normalized import normalize_name

from . import config, pages

MAJOR = int(__version__.split(".")[0])

# What devpi 7 calls options, which are environment variables, and settings of indexes. None: always on, or removed.
NAMES_IN_7: dict[str, str | None] = {
    "DEVPISERVER_MIRROR_CACHE_EXPIRY": "DEVPISERVER_REMOTE_REFRESH_DELAY",
    "DEVPISERVER_ENABLE_CORE_METADATA": None,
    "DEVPISERVER_KEYFS_CACHE_SIZE": None,
    "mirror_no_project_list": "remote_no_project_list",
    "mirror_provides_core_metadata": None,
    "mirror_url": "remote_url",
}

# The file of the database, and the query for its last transaction.
DATABASE, LAST_SERIAL = (
    (".sqlite", "SELECT MAX(serial) FROM changelog")
    if MAJOR < 7
    else (".sqlite_alchemy", "SELECT MAX(serial) FROM ulid_changelog")
)

# The key of the primary's URL in a replica's .nodeinfo.
PRIMARY_URL = "masterurl" if MAJOR < 7 else "primary_url"

# The type of mirror indexes.
MIRROR_TYPE = "mirror" if MAJOR < 7 else "remote"


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options or settings with the names of this devpi, without those that it does not have."""
    if MAJOR < 7:
        return dict(values)
    names = {name: NAMES_IN_7.get(name, name) for name in values}
    return {new: values[name] for name, new in names.items() if new}


def default_mirror_url() -> str:
    """Return the upstream of the public index of a new data directory."""
    # Not at the top, as this import takes longer than the start of the rest.
    from devpi_server.main import _pypi_ixconfig_default as default

    (name,) = renamed({"mirror_url": None})
    return str(default[name])


def empty_acl() -> list[str]:
    """Return an empty list of users, by whose type devpi recognizes that a setting is one."""
    if MAJOR < 7:
        from devpi_server.model import ACLList
    else:
        from devpi_server.model.config import ACLList  # type: ignore[import-not-found, no-redef, unused-ignore]
    return ACLList()  # type: ignore[no-any-return, unused-ignore]


def is_mirror(stage: Any) -> bool:
    return bool(stage.ixconfig["type"] in config.MIRROR_TYPES)


def stages_with(stage: Any, project: str) -> list[Any]:
    """Return the indexes that contribute to a project of an index, in order: itself and its bases that are not blocked."""
    if MAJOR < 7:
        return [found for found, _has in stage.op_sro_check_mirror_whitelist("has_project_perstage", project=project)]
    info = stage.index_bases.get_project_inheritance_info(normalize_name(project))
    return [traversed.index for traversed in info.iter_indexes("get_simplelinks")]


def simple_links(stage: Any, project: str, page: pages.Page) -> Any:
    """Return devpi's object for the links of a project of a mirror index, from its page with links to this mirror."""
    if MAJOR < 7:
        links: list[Any] = []
        for file in page["files"]:
            algorithm, digest = pages.hash_of(file)
            path = pages.linked_path(file["url"], stage.name)
            href = f"{stage.name}/{path}" + (f"#{algorithm}={digest}" if digest else "")
            links.append((file["filename"], href, file.get("requires-python"), file.get("yanked")))
        return stage.SimpleLinks(links, core_metadata=True)
    from devpi_server.filestore import Digests  # type: ignore[attr-defined, unused-ignore]
    from devpi_server.model.links import SimplelinkMeta  # type: ignore[import-not-found, unused-ignore]

    name = normalize_name(project)
    return stage.SimpleLinks(
        [
            SimplelinkMeta(
                basename=file["filename"],
                hashes=Digests({algorithm: digest} if digest else {}),
                index=stage.index,
                project=name,
                relpath=pages.linked_path(file["url"], stage.name),
                require_python=file.get("requires-python"),
                size=file.get("size"),
                upload_time=file.get("upload-time"),
                user=stage.username,
                yanked=file.get("yanked"),
            )
            for file in page["files"]
            if has_version(name, file["filename"])
            for algorithm, digest in [pages.hash_of(file)]
        ]
    )


def has_version(project: Any, filename: str) -> bool:
    """Return whether devpi 7 finds a version in a file name. A single file without one makes it fail for the whole project."""
    from devpi_server.filestore import split_name_version_pyversion_ext  # type: ignore[attr-defined, unused-ignore]

    try:
        split_name_version_pyversion_ext(project, filename, checkarch=False)
    except ValueError:
        return False
    return True


def private_files(stage: Any, project: str) -> list[pages.File]:
    """Return the own files of a project in an index that is not a mirror."""
    files = []
    for link in stage.get_simplelinks_perstage(project):
        if MAJOR < 7:
            path, _hash, fragment = link.href.partition("#")
            algorithm, _equals, digest = fragment.partition("=")
            name, hashes = link.key, {algorithm: digest} if digest else {}
            more: pages.File = {"core-metadata": True if link.core_metadata else None}
        else:
            name, path, hashes = link.basename, link.path, dict(link.hashes)
            # devpi represents metadata without a hash as an empty object.
            has_metadata = None if link.core_metadata is None else link.core_metadata or True
            more = {"core-metadata": has_metadata, "size": link.size, "upload-time": link.upload_time}
        more |= {"requires-python": link.require_python, "yanked": None if link.yanked is False else link.yanked}
        file: pages.File = {"filename": name, "url": pages.link_to(path), "hashes": hashes}
        files.append(file | {key: value for key, value in more.items() if value is not None})
    return files


def mirror_url(stage: Any) -> str:
    """Return the URL of a mirror index's upstream, including credentials."""
    (name,) = renamed({"mirror_url": None})
    return str(stage.ixconfig.get(name, ""))


def file_key(xom: Any, path: str) -> Any:
    """Return the key of a file's database entry, which may not exist. It requires a transaction."""
    if MAJOR < 7:
        return xom.keyfs.get_key_instance("STAGEFILE" if "/+f/" in path else "PYPIFILE_NOMD5", path)
    schema = xom.keyfs.schema
    return xom.keyfs.match_key(path, schema.FILE_NOHASH, schema.FILE).with_resolved_parent()


def set_content(entry: Any, content: Any, hashes: Mapping[str, str], size: int) -> None:
    """Store the file of an entry."""
    entry.file_set_content(content, hashes=hashes, **({} if MAJOR < 7 else {"size": size}))
