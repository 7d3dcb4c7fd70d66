# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting settings into one file, and giving back what was there.

Private to the collection. All of this runs with the rights of the file's owner. Beside a file that has settings of ours stand
two others: NAME.before-devpi-mirror, what would be there without them, and NAME.devpi-mirror.json, the record of what we
did. They are written before the file is, so that whatever a crash leaves can be told apart:

- The file is what the record says we have written: the other two say what was there.
- The file is what the record says was there: we were about to begin, or had just ended.
- Else its owner has edited it: what would be there without us is this, with each of our values that is still there taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, NamedTuple, Optional

from ansible_collections.devpi.mirror.plugins.module_utils._as_user import Failed
from ansible_collections.devpi.mirror.plugins.module_utils._edit import (
    Format,
    NotParsed,
    Settings,
    credentials,
    edit,
    mask,
    parse,
    without_marks,
)

BACKUP = ".before-devpi-mirror"
RECORD = ".devpi-mirror.json"
NEW = ".devpi-mirror-new"
_LARGEST = 1 << 20


class Record(NamedTuple):
    """What we did to a file.

    ``written``: digests of what we wrote last and, in case that did not come to pass, before; ``original``: of what was there
    without us; a digest is None where there was no file. ``values``: all values that may be ours, by section and key.
    ``before``: what would be there without us. ``folders``: those made for the file, the deepest first. ``mode``: the file's
    own, if we have taken it from others.
    """

    written: List[Optional[str]]
    original: Optional[str]
    values: Dict[str, Dict[str, List[str]]]
    before: Settings
    folders: List[str]
    mode: Optional[int]


class Outcome(NamedTuple):
    """What happened to a file: ``action`` as module pip_config returns it, and the text before and after."""

    path: str
    action: str
    before: Optional[str] = None
    after: Optional[str] = None
    message: str = ""

    def told(self) -> Dict[str, Any]:
        """Return it as JSON can carry it, without credentials."""
        texts = {"before": self.before, "after": self.after}
        shown = {name: mask(text or "").encode("utf-8", "replace").decode("utf-8") for name, text in texts.items()}
        return dict(path=self.path, action=self.action, message=self.message, **shown)


def read(path: str) -> Optional[str]:
    """Return a file's text, None if there is none. Raises Failed for what is no file of settings."""
    try:
        # Opening a named pipe would block otherwise.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Failed("%s is no ordinary file" % path)
            if status.st_size > _LARGEST:
                raise Failed("%s is too large for a file of settings" % path)
            return stream.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except IsADirectoryError as exc:
        raise Failed("%s is a directory: move it elsewhere, so that the settings can be written there" % path) from exc


def put(
    path: str,
    form: Format,
    wanted: Callable[[Optional[str]], Optional[str]],
    check_mode: bool,
    folders: FrozenSet[str] = frozenset(),
) -> Outcome:
    """Have the file at ``path`` say what ``wanted`` returns, given the text that would be there without us.

    Both are None for no file. Raises Failed if it can't be done; then nothing has changed. ``folders`` were made for other
    files: whichever of these files goes last takes them along.
    """
    now = read(path)
    record = _read_record(path)
    try:
        theirs = _theirs(path, now, record, form)
        after = wanted(theirs)
        settings = parse(after or "", form)
        mode = _mode(path) & (0o600 if credentials(after or "") else 0o777)
        if (now is None) == (after is None) and settings == parse(now or "", form) and mode == _mode(path):
            return Outcome(path, "unchanged", now, now)
    except NotParsed as exc:
        raise Failed("%s is left as it is: %s" % (path, exc)) from exc
    _check_writable(path)
    target = os.path.realpath(path)
    _check_writable(target)
    if not check_mode:
        made = _make_folders(path)
        new = _new_record(now, theirs, after, form, record)
        shared = [folder for folder in _above(path) if folder in folders or folder in new.folders]
        new = new._replace(folders=made + shared, mode=new.mode if mode == _mode(path) else _mode(path))
        try:
            if theirs is not None:
                _write(path + BACKUP, theirs, 0o600)
            _write(path + RECORD, json.dumps(dict(version=2, **new._asdict()), indent=2, sort_keys=True) + "\n", 0o600)
            if _digest(read(path)) != _digest(now):
                raise Failed("%s was changed by somebody at this moment: run this again" % path)
            if after is None:
                os.unlink(target)
            else:
                _write(target, after, mode)
        except BaseException:
            if record is None:
                _remove_leftovers(path, made)
            raise
    return Outcome(path, "removed" if after is None else "created" if now is None else "updated", now, after)


def take(path: str, form: Format, check_mode: bool) -> Outcome:
    """Bring back what would be at ``path`` without us. Raises Failed if it can't be done."""
    record = _read_record(path)
    now = read(path) if record else None
    if record is None:
        return Outcome(path, "unchanged")
    try:
        theirs = _theirs(path, now, record, form)
    except NotParsed as exc:
        raise Failed("%s is left as it is: %s" % (path, exc)) from exc
    mode = _mode(path)
    if record.mode is not None and mode == record.mode & 0o600 and not credentials(theirs or ""):
        mode = record.mode
    _check_writable(path)
    if not check_mode:
        target = os.path.realpath(path)
        if theirs is None and now is not None:
            os.unlink(target)
        elif theirs is not None and (theirs != now or mode != _mode(path)):
            _write(target, theirs, mode)
        _remove_leftovers(path, record.folders)
    if theirs == now:
        return Outcome(path, "unchanged", now, now)
    return Outcome(path, "removed" if theirs is None else "restored", now, theirs)


def without_us(path: str, form: Format) -> Optional[str]:
    """Return the text that would be at ``path`` without us. Raises Failed or NotParsed."""
    return _theirs(path, read(path), _read_record(path), form)


def _theirs(path: str, now: Optional[str], record: Optional[Record], form: Format) -> Optional[str]:
    if record is None or _digest(now) == record.original:
        return now
    if _digest(now) in record.written:
        before = read(path + BACKUP) if record.original else None
        if _digest(before) == record.original:
            return before
    if now is None:
        return None
    found = parse(now, form)
    back: Dict[str, Dict[str, Optional[str]]] = {}
    for section, keys in record.values.items():
        for name, values in keys.items():
            # What its owner has changed since is theirs.
            if found.get(section, {}).get(name) in values:
                back.setdefault(section, {})[name] = record.before.get(section, {}).get(name)
    text = edit(without_marks(now), back, form, keep=tuple(record.before))
    return text if record.original or text.strip() else None


def _new_record(
    now: Optional[str],
    theirs: Optional[str],
    after: Optional[str],
    form: Format,
    record: Optional[Record],
) -> Record:
    before = parse(theirs or "", form)
    current = parse(now or "", form)
    values: Dict[str, Dict[str, List[str]]] = {}
    for section, keys in parse(after or "", form).items():
        for name, value in keys.items():
            if before.get(section, {}).get(name) != value:
                values.setdefault(section, {})[name] = [value]
    # If we end half-way, those of the last time are still there.
    for section, olds in (record.values if record else {}).items():
        for name, old in olds.items():
            kept = [value for value in old if value == current.get(section, {}).get(name)]
            known = values.setdefault(section, {}).setdefault(name, [])
            known += [value for value in kept if value not in known]
    return Record(
        written=[_digest(after), _digest(now)] if record and _digest(now) in record.written else [_digest(after)],
        original=_digest(theirs),
        values=values,
        before=before,
        folders=record.folders if record else [],
        mode=record.mode if record else None,
    )


def _read_record(path: str) -> Optional[Record]:
    """Return what was recorded when the settings were put there, None if they were not."""
    text = read(path + RECORD)
    if text is None:
        return None
    try:
        found = json.loads(text)
        if found["version"] == 2:
            return Record(**{name: found[name] for name in Record._fields})
        if found["version"] == 1:
            # As version 0.1.0 wrote it, with what was first there for ever in the backup.
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
    raise Failed("%s can't be read: restore or remove it" % (path + RECORD))


def _digest(text: Optional[str]) -> Optional[str]:
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _mode(path: str) -> int:
    """Return the mode of a file, the usual one if there is none."""
    return stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644


def _check_writable(path: str) -> None:
    """Raise Failed if this user could not put a file there, or not give it back to its owner."""
    folder = os.path.dirname(path)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Failed("%s can't be written by its user: change its owner or mode, or leave this user out" % folder)
    if os.path.exists(path) and os.stat(path).st_uid != os.geteuid():
        raise Failed("%s belongs to user number %d: give it to its user with chown" % (path, os.stat(path).st_uid))


def _write(path: str, text: str, mode: int) -> None:
    """Replace a file in one step: after a crash there is the old one or the new one. Group, lists of access and labels stay."""
    folder = os.path.dirname(path)
    new = path + NEW
    if os.path.lexists(new):
        # What a crash has left.
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
            stream.flush()
            if os.path.exists(path):
                _keep_attributes(path, descriptor)
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


def _keep_attributes(path: str, descriptor: int) -> None:
    """Give a new file what the old one has besides text, owner and mode."""
    try:
        group = os.stat(path).st_gid
        if os.fstat(descriptor).st_gid != group:
            os.fchown(descriptor, -1, group)
        for name in os.listxattr(path) if hasattr(os, "listxattr") else []:
            value = os.getxattr(path, name)
            # The system has given it most of them, SELinux's label among them.
            if name not in os.listxattr(descriptor) or os.getxattr(descriptor, name) != value:
                os.setxattr(descriptor, name, value)
    except OSError as exc:
        raise Failed(
            "%s has a group, a list of access or a label that its user can't give: %s" % (path, exc.strerror)
        ) from exc


def made_folders(paths: Iterable[str]) -> FrozenSet[str]:
    """Return the folders that were made for those of these files that we have put something into."""
    records = []
    for path in paths:
        with contextlib.suppress(Failed, OSError):
            records.append(_read_record(path))
    return frozenset(folder for record in records if record for folder in record.folders)


def _above(path: str) -> List[str]:
    """Return the folders above ``path``, the deepest first."""
    folders = []
    while os.path.dirname(path) != path:
        path = os.path.dirname(path)
        folders.append(path)
    return folders


def _make_folders(path: str) -> List[str]:
    """Make the folders above ``path`` that are missing, and return them, the deepest first."""
    missing = [folder for folder in _above(path) if not os.path.isdir(folder)]
    for folder in reversed(missing):
        # What the XDG base directory specification asks of a folder that is made for it. Those of the system are for all.
        os.mkdir(folder, 0o755 if folder.startswith("/etc/") else 0o700)
    return missing


def _remove_leftovers(path: str, folders: List[str]) -> None:
    """Remove what stands beside a file, and the folders that were made for it."""
    for leftover in (path + BACKUP, path + RECORD):
        if os.path.lexists(leftover):
            os.unlink(leftover)
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            # Somebody has put something there since, or it has gone.
            return
