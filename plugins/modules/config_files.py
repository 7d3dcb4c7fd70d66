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
  - Needs one round trip to the host, where M(ansible.builtin.template) needs several for each file.
  - The files belong to root and to group 0. Each is replaced atomically.
extends_documentation_fragment: action_common_attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  contents:
    description:
      - The texts of the files, by absolute path, in the order in which they are written. Their directories must exist.
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
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
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
import stat
import tempfile
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

OWNER = 0
# Its name differs between Linux and macOS.
GROUP = 0


class File(NamedTuple):
    """The content of a file, None if it does not exist, and its attributes."""

    content: bytes | None
    owner: int
    group: int
    mode: int

    def attributes(self) -> str:
        return "" if self.content is None else f"owner {self.owner}, group {self.group}, mode {self.mode:04o}\n"


def read(path: str) -> File:
    """Return a file as it is. Raises OSError if it can't be read."""
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            return File(stream.read(), status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    except FileNotFoundError:
        return File(None, 0, 0, 0)


def differences(path: str, before: File, after: File) -> list[dict[str, str]]:
    """Return what Ansible prints with ``--diff``."""
    texts = [(file.content or b"").decode("utf-8", "replace") for file in (before, after)]
    found = []
    if before.content != after.content:
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


def write_new(path: str, file: File) -> None:
    """Create a file that does not exist, with its attributes. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.content or b"")
        stream.flush()
        os.fchown(descriptor, file.owner, file.group)
        os.fchmod(descriptor, file.mode)
        os.fsync(descriptor)


def validate(module: AnsibleModule, wanted: dict[str, File], commands: dict[str, str]) -> None:
    """Run the commands on copies of the files. Fails the module if one of them fails."""
    folder = tempfile.mkdtemp(dir=module.tmpdir)
    copies = {path: os.path.join(folder, path.lstrip("/")) for path in wanted}
    for path, copy in copies.items():
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        write_new(copy, wanted[path])
    for path, command in commands.items():
        code, output, errors = module.run_command([word.replace("%s", copies[path]) for word in shlex.split(command)])
        if code:
            reason = (errors or output).replace(folder, "").strip()
            module.fail_json(msg=f"{path} would be invalid, so no file was changed: {reason}")


def replace(module: AnsibleModule, files: dict[str, File]) -> None:
    """Replace files. Raises OSError, before the first one is replaced if one of them can't be written."""
    new_paths = {path: f"{path}.devpi-mirror-new" for path in files}
    try:
        for path, new in new_paths.items():
            with contextlib.suppress(FileNotFoundError):
                # From a crash.
                os.unlink(new)
            write_new(new, files[path])
            if module.selinux_enabled():
                module.set_context_if_different(new, module.selinux_default_context(path), False)
        for path, new in new_paths.items():
            os.replace(new, path)
    finally:
        for new in new_paths.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Write the files, and return the result of the module. Raises OSError."""
    params = module.params
    wanted = {
        path: File(text.encode(), OWNER, GROUP, int(str(params["modes"].get(path, "0644")), 8))
        for path, text in params["contents"].items()
    }
    found = {path: read(path) for path in wanted}
    changed = {path: file for path, file in wanted.items() if found[path] != file}
    if changed and not module.check_mode:
        validate(module, wanted, params["validate"])
        replace(module, changed)
    diff = [entry for path, file in changed.items() for entry in differences(path, found[path], file)]
    return {"changed": bool(changed), "paths": list(changed), "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "contents": {"type": "dict", "required": True},
            "modes": {"type": "dict", "default": {}},
            "validate": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except OSError as exc:
        module.fail_json(msg=f"Could not write {exc.filename}: {exc.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
