#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Write several configuration files, all or none
description:
  - Writes files that belong together, such as the units of a service. All of them are validated before the first one is
    replaced, so an invalid file leaves the previous ones.
  - Needs one round trip to the host, where C(ansible.builtin.template) needs several for each file.
  - The files belong to root and to group 0. Each is replaced atomically.
extends_documentation_fragment: devpi.mirror.attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  contents:
    description:
      - The texts of the files, by absolute path, in the order in which they are written. Their directories must exist.
      - The text of a file that not all users can read is neither logged nor printed.
    type: dict
    required: true
  modes:
    description:
      - The permissions of files, by path, as octal numbers in quotes. By default, they are V(0644).
    type: dict
    default: {}
  validate:
    description:
      - Commands that fail if a file is invalid, by path, run without a shell. V(%s) is replaced by the path of a copy of the
        file. The copies of all files are in one temporary directory, with the same relative paths and names.
      - Not run in check mode, as a command can need what an earlier task would install.
    type: dict
    default: {}
attributes:
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Write the units of a service
  devpi.mirror.config_files:
    contents:
      /etc/systemd/system/example.service: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
      /etc/systemd/system/example.socket: "{{ lookup('ansible.builtin.template', 'example.socket.j2') }}"
    validate:
      /etc/systemd/system/example.service: systemd-analyze verify %s
  become: true
"""

RETURN = r"""
paths:
  description: The paths of the files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/example.service]
"""

import contextlib
import os
import shlex
import shutil
import stat
import tempfile
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

OWNER = 0
# Its name differs between Linux and macOS.
GROUP = 0
NO_CHANGE = "No file was changed."
HIDDEN = "(not shown, as not all users can read this file)\n"


class OptionError(Exception):
    """An option is invalid. The message names it and a valid value."""


class WriteError(Exception):
    """A file can't be written. The message names it, the cause, and which files have changed."""


class File(NamedTuple):
    """The content of a file, None if it does not exist, and its attributes."""

    content: bytes | None
    owner: int
    group: int
    mode: int

    def is_private(self) -> bool:
        return not self.mode & stat.S_IROTH

    def text(self) -> str:
        return (self.content or b"").decode("utf-8", "replace")

    def attributes(self) -> str:
        return "" if self.content is None else f"owner {self.owner}, group {self.group}, mode {self.mode:04o}\n"


def wanted_files(params: dict[str, Any]) -> dict[str, File]:
    """Return the files to write, by path. Raises OptionError."""
    contents, modes, commands = params["contents"], params["modes"], params["validate"]
    for option in ("modes", "validate"):
        for path in set(params[option]) - set(contents):
            raise OptionError(
                f"{option} has the path {path}, which contents does not have: add the file, or remove the path"
            )
    for path, command in commands.items():
        if not is_validation(command):
            raise OptionError(
                f"validate has {command!r} for {path}: set it to a command that contains %s, such as sh -n %s"
            )
    files = {}
    for path, text in contents.items():
        if not os.path.isabs(path) or os.path.normpath(path) != path:
            raise OptionError(f"contents has the path {path}: set it to an absolute path, such as /etc/example.conf")
        if not isinstance(text, str):
            raise OptionError(f"contents has {text!r} for {path}: set it to a text")
        files[path] = File(
            text.encode("utf-8", "surrogateescape"), OWNER, GROUP, file_mode(path, modes.get(path, "0644"))
        )
    return files


def is_validation(command: Any) -> bool:
    """Return whether a command can be run, and on a file."""
    try:
        return isinstance(command, str) and any("%s" in word for word in shlex.split(command)[1:])
    except ValueError:
        # A quotation mark lacks its counterpart.
        return False


def file_mode(path: str, mode: str | int) -> int:
    """Return a mode as a number. Raises OptionError."""
    try:
        # In YAML, an octal number without quotes is an integer.
        number = mode if isinstance(mode, int) else int(mode, 8)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= 0o777:
        raise OptionError(f"modes has {mode!r} for {path}: set it to an octal number in quotes, such as '0644'")
    return number


def read(path: str) -> File:
    """Return a file as it is. Raises WriteError if it can't be read."""
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            return File(stream.read(), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        return File(None, 0, 0, 0)
    except OSError as exc:
        raise WriteError(f"{path} can't be read: {exc.strerror}. {NO_CHANGE}") from exc


def differences(path: str, before: File, after: File) -> list[dict[str, str]]:
    """Return what Ansible prints with ``--diff``."""
    found = []
    if before.content != after.content:
        texts = (before.text(), after.text())
        if after.is_private() or (before.content is not None and before.is_private()):
            texts = ("" if before.content is None else HIDDEN, HIDDEN + "changed\n")
        found.append({"before_header": path, "after_header": path, "before": texts[0], "after": texts[1]})
    if before.content is not None and before[1:] != after[1:]:
        header = f"{path} (attributes)"
        found.append(
            {
                "before_header": header,
                "after_header": header,
                "before": before.attributes(),
                "after": after.attributes(),
            }
        )
    return found


def temporary(path: str) -> str:
    """Return the path of a file before it replaces ``path``. Programs that read all files of a directory ignore its name."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.devpi-mirror~")


def write_new(path: str, file: File) -> None:
    """Create a file that does not exist, with its attributes. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.content or b"")
        stream.flush()
        os.fchown(descriptor, file.owner, file.group)
        os.fchmod(descriptor, file.mode)
        os.fsync(descriptor)


def validate(module: AnsibleModule, files: dict[str, File], commands: dict[str, str]) -> None:
    """Run the commands on copies of the files. Raises WriteError if one of them fails."""
    if not commands:
        return
    folder = tempfile.mkdtemp(dir=module.tmpdir)
    try:
        copies = {path: folder + path for path in files}
        for path, copy in copies.items():
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            write_new(copy, files[path])
        for path, command in commands.items():
            words = [word.replace("%s", copies[path]) for word in shlex.split(command)]
            if shutil.which(words[0]) is None:
                raise WriteError(f"{path} can't be validated, as this host has no command {words[0]}. {NO_CHANGE}")
            code, output, errors = module.run_command(words)
            if code:
                cause = (errors or output).replace(folder, "").strip()
                raise WriteError(f"{path} would be invalid, so no file was changed: {cause}")
    finally:
        shutil.rmtree(folder)


def replace(module: AnsibleModule, path: str, file: File) -> None:
    """Replace a file atomically. Raises OSError, and then it has not changed."""
    new = temporary(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            # From a crash.
            os.unlink(new)
        write_new(new, file)
        if module.selinux_enabled():
            module.set_context_if_different(new, module.selinux_default_context(path), False)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def restore(module: AnsibleModule, path: str, found: File) -> bool:
    """Undo the replacement of a file, and return whether that was possible."""
    try:
        if found.content is None:
            os.unlink(path)
        else:
            replace(module, path, found)
    except OSError:
        return False
    return True


def replace_all(module: AnsibleModule, files: dict[str, File], found: dict[str, File]) -> None:
    """Replace files. Raises WriteError, after it has restored those that were already replaced."""
    replaced: list[str] = []
    for path, file in files.items():
        try:
            replace(module, path, file)
        except OSError as exc:
            changed = [other for other in replaced if not restore(module, other, found[other])]
            outcome = f"Already changed, and could not be restored: {', '.join(changed)}." if changed else NO_CHANGE
            raise WriteError(f"{path} can't be written: {exc.strerror}. {outcome}") from exc
        replaced.append(path)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Write the files, and return the result of the module. Raises OptionError or WriteError."""
    wanted = wanted_files(module.params)
    # All texts are protected while the module starts. Those of files that all users can read are not secret.
    module.no_log_values = {file.text() for file in wanted.values() if file.is_private() and file.content}
    found = {path: read(path) for path in wanted}
    changed = {path: file for path, file in wanted.items() if found[path] != file}
    if changed and not module.check_mode:
        validate(module, wanted, module.params["validate"])
        replace_all(module, changed, found)
    result: dict[str, Any] = {"changed": bool(changed), "paths": list(changed)}
    if module._diff:
        result["diff"] = [entry for path, file in changed.items() for entry in differences(path, found[path], file)]
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "contents": {"type": "dict", "required": True, "no_log": True},
            "modes": {"type": "dict", "default": {}},
            "validate": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (OptionError, WriteError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
