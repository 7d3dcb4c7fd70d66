# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply settings to a file, and restore its original.

Private to the collection. All functions run with the privileges of the file's owner. A configured file has two others beside
it: NAME.before-devpi-mirror, the original, which is what the file would contain without these settings, and
NAME.devpi-mirror.json, the record of the changes. They are written before the file, so that the state after a crash is known:

- The file has a recorded ``written`` digest: the backup is its original.
- The file has the recorded ``original`` digest: it was not changed yet, or it was just restored.
- Otherwise its owner has edited it: the original is this file, with each applied value that it still has replaced by the
  previous one.

A record in the home directory, at the path CONFIG_HOMES, names the directories of settings that have configured files. They are
in it from before their first file is written until their last one is restored, and while they do not exist (as on a file system
that is not mounted).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from typing import Any, Callable, Iterable, NamedTuple

from ansible_collections.devpi.mirror.plugins.module_utils._as_user import OperationError
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask, url_credentials
from ansible_collections.devpi.mirror.plugins.module_utils._edit import (
    Format,
    ParseError,
    Settings,
    edit,
    parse,
    without_managed_comments,
)

# The suffixes of the files beside a configured file.
BACKUP = ".before-devpi-mirror"
RECORD = ".devpi-mirror.json"
TEMPORARY = ".devpi-mirror-new"
# The record of directories, relative to the home directory.
CONFIG_HOMES = ".local/state/devpi-mirror.json"
_MAX_SIZE = 1 << 20


class Record(NamedTuple):
    """The changes to a file.

    ``written`` has the digest of the text that was written last and, in case that did not complete, of the one before.
    ``original`` is the digest of the original. A digest is None for a file that does not exist. ``values`` has all values
    that may have been applied, by section and key, ``before`` the values of the original. ``folders`` were created for the
    file, the deepest first. ``mode`` is the original mode if access was restricted.
    """

    written: list[str | None]
    original: str | None
    values: dict[str, dict[str, list[str]]]
    before: Settings
    folders: list[str]
    mode: int | None


class Outcome(NamedTuple):
    """The result for a file: ``action`` as the module pip_config returns it, and the text before and after."""

    path: str
    action: str
    before: str | None = None
    after: str | None = None
    message: str = ""

    def as_dict(self, secrets: Callable[[str], list[tuple[int, int]]] = url_credentials) -> dict[str, Any]:
        """Return the fields as JSON can represent them, without secrets."""
        texts = {"before": self.before, "after": self.after}
        masked = {
            name: mask(text or "", secrets).encode("utf-8", "replace").decode("utf-8") for name, text in texts.items()
        }
        return dict(path=self.path, action=self.action, message=self.message, **masked)


def read(path: str) -> str | None:
    """Return the text of a file, None if it does not exist. Raises OperationError if it can't be a configuration file."""
    try:
        # Opening a named pipe would block otherwise.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OperationError(f"{path} is not a regular file")
            if status.st_size > _MAX_SIZE:
                raise OperationError(f"{path} is too large for a configuration file")
            return stream.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except IsADirectoryError as exc:
        raise OperationError(f"{path} is a directory: move it, so that the file can be written") from exc


def apply(
    path: str,
    file_format: Format,
    wanted: Callable[[str | None], str | None],
    check_mode: bool,
    folders: frozenset[str] = frozenset(),
) -> Outcome:
    """Give a file the text that ``wanted`` returns for the original text.

    Both are None for no file. Raises OperationError if that is not possible, and then nothing has changed. ``folders`` were
    created for other files: the last of these files that is restored removes them.
    """
    current = read(path)
    record = _read_record(path)
    try:
        original = _original(path, current, record, file_format)
        after = wanted(original)
        settings = parse(after or "", file_format)
        mode = _mode(path) & (0o600 if file_format.secrets(after or "") else 0o777)
        is_same = (current is None) == (after is None) and settings == parse(current or "", file_format)
        if is_same and mode == _mode(path):
            return Outcome(path, "unchanged", current, current)
    except ParseError as exc:
        raise OperationError(f"{path} was not changed: {exc}") from exc
    _check_writable(path)
    target = os.path.realpath(path)
    _check_writable(target)
    if not check_mode:
        created = _create_folders(path)
        new = _new_record(current, original, after, file_format, record)
        shared = [folder for folder in _parents(path) if folder in folders or folder in new.folders]
        new = new._replace(folders=created + shared, mode=new.mode if mode == _mode(path) else _mode(path))
        try:
            if original is not None:
                _write(path + BACKUP, original, 0o600)
            _write(path + RECORD, json.dumps(dict(version=2, **new._asdict()), indent=2, sort_keys=True) + "\n", 0o600)
            if _digest(read(path)) != _digest(current):
                raise OperationError(f"{path} was modified while it was being written: run the task again")
            if after is None:
                os.unlink(target)
            else:
                _write(target, after, mode)
        except BaseException:
            if record is None:
                _remove_leftovers(path, created)
            raise
    return Outcome(path, "removed" if after is None else "created" if current is None else "updated", current, after)


def restore(path: str, file_format: Format, check_mode: bool) -> Outcome:
    """Restore the original of a file. Raises OperationError if that is not possible."""
    record = _read_record(path)
    current = read(path) if record else None
    if record is None:
        return Outcome(path, "unchanged")
    try:
        original = _original(path, current, record, file_format)
    except ParseError as exc:
        raise OperationError(f"{path} was not changed: {exc}") from exc
    mode = _mode(path)
    if record.mode is not None and mode == record.mode & 0o600 and not file_format.secrets(original or ""):
        mode = record.mode
    _check_writable(path)
    if not check_mode:
        target = os.path.realpath(path)
        if original is None and current is not None:
            os.unlink(target)
        elif original is not None and (original != current or mode != _mode(path)):
            _write(target, original, mode)
        _remove_leftovers(path, record.folders)
    if original == current:
        return Outcome(path, "unchanged", current, current)
    return Outcome(path, "removed" if original is None else "restored", current, original)


def original_text(path: str, file_format: Format) -> str | None:
    """Return the original text of a file. Raises OperationError or ParseError."""
    return _original(path, read(path), _read_record(path), file_format)


def is_configured(path: str) -> bool:
    """Return whether a file has a record, or can have one that is inaccessible now."""
    return can_exist(path + RECORD)


def can_exist(path: str) -> bool:
    """Return whether a path exists, or may exist where this process has no access."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def read_config_homes(home: str) -> list[str]:
    """Return the recorded directories of settings of a user. Raises OperationError if the record is invalid."""
    return list(_read_config_homes(home)["config_homes"])


def record_config_homes(home: str, config_homes: list[str], check_mode: bool) -> None:
    """Replace the recorded directories, and remove an empty record. Raises OperationError if that is not possible."""
    known = _read_config_homes(home)
    path = os.path.join(home, CONFIG_HOMES)
    _check_writable(path)
    if check_mode:
        return
    if not config_homes:
        os.unlink(path)
        _remove_folders(known["folders"])
        return
    folders = _create_folders(path)
    content = {"version": 1, "config_homes": config_homes, "folders": folders + known["folders"]}
    try:
        _write(path, json.dumps(content, indent=2, sort_keys=True) + "\n", 0o600)
    except BaseException:
        _remove_folders(folders)
        raise


def _read_config_homes(home: str) -> dict[str, list[str]]:
    path = os.path.join(home, CONFIG_HOMES)
    text = read(path)
    if text is None:
        return {"config_homes": [], "folders": []}
    try:
        found = json.loads(text)
        names = ("config_homes", "folders")
        if found["version"] == 1 and all(os.path.isabs(item) for name in names for item in found[name]):
            return {name: list(found[name]) for name in names}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise OperationError(f"{path} is not a valid record: restore or remove it")


def _original(path: str, current: str | None, record: Record | None, file_format: Format) -> str | None:
    if record is None or _digest(current) == record.original:
        return current
    if _digest(current) in record.written:
        before = read(path + BACKUP) if record.original else None
        if _digest(before) == record.original:
            return before
    if current is None:
        return None
    found = parse(current, file_format)
    back: dict[str, dict[str, str | None]] = {}
    for section, keys in record.values.items():
        for name, values in keys.items():
            # A value that the owner has changed since is preserved.
            if found.get(section, {}).get(name) in values:
                back.setdefault(section, {})[name] = record.before.get(section, {}).get(name)
    text = edit(without_managed_comments(current), back, file_format, keep_sections=tuple(record.before))
    return text if record.original or text.strip() else None


def _new_record(
    current: str | None,
    original: str | None,
    after: str | None,
    file_format: Format,
    record: Record | None,
) -> Record:
    before = parse(original or "", file_format)
    current_values = parse(current or "", file_format)
    values: dict[str, dict[str, list[str]]] = {}
    for section, keys in parse(after or "", file_format).items():
        for name, value in keys.items():
            if before.get(section, {}).get(name) != value:
                values.setdefault(section, {})[name] = [value]
    # If this does not complete, the file still has the values of the previous time.
    for section, keys_before in (record.values if record else {}).items():
        for name, old in keys_before.items():
            remaining = [value for value in old if value == current_values.get(section, {}).get(name)]
            known = values.setdefault(section, {}).setdefault(name, [])
            known += [value for value in remaining if value not in known]
    return Record(
        written=[_digest(after), _digest(current)]
        if record and _digest(current) in record.written
        else [_digest(after)],
        original=_digest(original),
        values=values,
        before=before,
        folders=record.folders if record else [],
        mode=record.mode if record else None,
    )


def _read_record(path: str) -> Record | None:
    """Return the record of a file, None if no settings are applied to it."""
    text = read(path + RECORD)
    if text is None:
        return None
    try:
        found = json.loads(text)
        if found["version"] == 2:
            return Record(**{name: found[name] for name in Record._fields})
        if found["version"] == 1:
            # From version 0.1.0, whose backup always has the first text of the file.
            return Record(
                written=[found["written"]] if found["written"] else [],
                original=_digest(read(path + BACKUP)) if found["existed"] else None,
                values={
                    section: {name: [value] for name, value in keys.items()} for section, keys in found["ours"].items()
                },
                before=found["before"],
                folders=found["folders"],
                mode=found["mode"],
            )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise OperationError(f"{path + RECORD} is not a valid record: restore or remove it")


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _mode(path: str) -> int:
    """Return the mode of a file, the default mode if it does not exist."""
    return stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644


def _check_writable(path: str) -> None:
    """Raise OperationError if this user can't write the file, or can't preserve its owner."""
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OperationError(f"{folder} is not writable by its user: change its owner or mode, or exclude this user")
    if os.path.exists(path) and os.stat(path).st_uid != os.geteuid():
        raise OperationError(f"{path} belongs to UID {os.stat(path).st_uid}: change its owner with chown")


def _write(path: str, text: str, mode: int) -> None:
    """Replace a file atomically, and preserve its group, ACLs and SELinux label."""
    folder = os.path.dirname(path)
    new = path + TEMPORARY
    if os.path.lexists(new):
        # From a crash.
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
            stream.flush()
            if os.path.exists(path):
                _copy_attributes(path, descriptor)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy_attributes(path: str, descriptor: int) -> None:
    """Give a new file the group and the extended attributes of the old one."""
    try:
        group = os.stat(path).st_gid
        if os.fstat(descriptor).st_gid != group:
            os.fchown(descriptor, -1, group)
        for name in os.listxattr(path) if hasattr(os, "listxattr") else []:
            value = os.getxattr(path, name)
            # The system sets most of them for a new file, the SELinux label among them.
            if name not in os.listxattr(descriptor) or os.getxattr(descriptor, name) != value:
                os.setxattr(descriptor, name, value)
    except OSError as exc:
        raise OperationError(
            f"{path} was not changed, as its user can't preserve its group, ACLs or SELinux label: {exc.strerror}"
        ) from exc


def created_folders(paths: Iterable[str]) -> frozenset[str]:
    """Return the directories that were created for those of these files that are configured."""
    records = []
    for path in paths:
        with contextlib.suppress(OperationError, OSError):
            records.append(_read_record(path))
    return frozenset(folder for record in records if record for folder in record.folders)


def _parents(path: str) -> list[str]:
    """Return the directories above ``path``, the deepest first."""
    folders = []
    while os.path.dirname(path) != path:
        path = os.path.dirname(path)
        folders.append(path)
    return folders


def _create_folders(path: str) -> list[str]:
    """Create the missing directories above ``path``, and return them, the deepest first."""
    missing = [folder for folder in _parents(path) if not os.path.isdir(folder)]
    for folder in reversed(missing):
        # The mode of the XDG base directory specification. All users read the directories in /etc.
        os.mkdir(folder, 0o755 if folder.startswith("/etc/") else 0o700)
    return missing


def _remove_leftovers(path: str, folders: list[str]) -> None:
    """Remove the backup and the record of a file, and the directories that were created for it."""
    for leftover in (path + BACKUP, path + RECORD):
        if os.path.lexists(leftover):
            os.unlink(leftover)
    _remove_folders(folders)


def _remove_folders(folders: list[str]) -> None:
    """Remove directories that were created, the deepest first, until one has other files."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            # It has other files, or was removed.
            return
