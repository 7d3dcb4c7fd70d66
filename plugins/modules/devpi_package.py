#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_package
short_description: Upload, copy or remove packages of a private index
description:
  - Uploads wheels and source distributions to a private index of a devpi server, copies a release from another index of the
    server, or removes a release or a project.
  - Everything is checked before the first change. Files that the index already has with the same SHA-256 hash are unchanged.
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  index:
    description:
      - The private index, as C(user/index).
    type: str
    required: true
  state:
    description:
      - V(present) uploads O(files), or copies a release from O(copy_from). V(absent) removes the release O(version) of O(name),
        or the project O(name) with all releases.
    type: str
    choices: [absent, present]
    default: present
  files:
    description:
      - The paths of wheels and source distributions (C(.whl), C(.tar.gz) or C(.zip)) on the target host. Their names must match
        their metadata.
      - A file with another content than that of the index replaces it on a volatile index. On a non-volatile index, the module
        fails and uploads no file.
    type: list
    elements: path
  name:
    description:
      - The project to copy or to remove.
    type: str
  version:
    description:
      - The version to copy or to remove, exactly as the index has it.
    type: str
  copy_from:
    description:
      - The private index from which to copy a release with its documentation and its results of tox, as C(user/index).
    type: str
  force:
    description:
      - Whether to remove from a non-volatile index.
    type: bool
    default: false
  transfer_timeout:
    description:
      - The time limit in seconds for the upload of one file, or for a copy. Other requests have O(request_timeout).
    type: float
    default: 600
attributes:
  check_mode:
    details:
      - The index and O(copy_from) need not exist in check mode, as earlier tasks may create them. The files must exist.
      - The permission to upload is checked, the permission to remove is not.
  diff_mode:
    support: full
seealso:
  - module: devpi.mirror.devpi_index
  - module: devpi.mirror.devpi_token
"""

EXAMPLES = r"""
- name: Upload a release
  devpi.mirror.devpi_package:
    index: acme/testing
    files:
      - /srv/build/acme_client-1.0-py3-none-any.whl
      - /srv/build/acme_client-1.0.tar.gz
    url_username: release-bot
    url_password: "{{ vault_release_bot_token }}"

- name: Copy the tested release to the index for releases
  devpi.mirror.devpi_package:
    index: acme/stable
    copy_from: acme/testing
    name: acme-client
    version: "1.0"
    url_username: release-bot
    url_password: "{{ vault_release_bot_password }}"

- name: Remove a release
  devpi.mirror.devpi_package:
    index: acme/testing
    name: acme-client
    version: "0.9"
    state: absent
    url_username: release-bot
    url_password: "{{ vault_release_bot_password }}"
"""

RETURN = r"""
files:
  description:
    - What happened, or would happen in check mode, to each file, by its name. One of V(added), V(replaced), V(removed)
      or V(unchanged).
  returned: success
  type: dict
  sample: {"acme_client-1.0-py3-none-any.whl": "added", "acme_client-1.0.tar.gz": "unchanged"}
"""

from typing import Any, Iterable
from urllib.parse import quote, unquote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi, _distribution


class Project:
    """The files of a project on an index, without those that it inherits."""

    def __init__(self, api: _api.Api, index: str, project: str) -> None:
        self.api = api
        self.index = index
        self.path = f"/{index}/{project}"
        # The paths of files by their names, by version.
        self.releases: dict[str, dict[str, str]] = {}
        self._hashes: dict[str, str | None] = {}
        for version, metadata in (api.find(f"{self.path}?ignore_bases=") or {}).items():
            files = self.releases.setdefault(version, {})
            for link in metadata.get("+links", []):
                if link["rel"] == "releasefile":
                    path = f"/{index}/+f/" + link["href"].split("/+f/", 1)[-1]
                    filename = unquote(link["href"].rsplit("/", 1)[-1])
                    files[filename] = path
                    self._hashes[path] = link.get("hashes", {}).get("sha256")

    @property
    def files(self) -> dict[str, str]:
        """The paths of all files by their names."""
        return {filename: path for files in self.releases.values() for filename, path in files.items()}

    def hashes(self, filenames: Iterable[str]) -> dict[str, str]:
        """Return the hashes of those of the files that the index has. Raises RefusedError, ApiError and ProbeError."""
        return {name: self._hash(path) for name, path in self.files.items() if name in filenames}

    def _hash(self, path: str) -> str:
        # devpi 7 does not list hashes.
        found = self._hashes[path] or self.api.call("GET", path).get("hashes", {}).get("sha256")
        if not found:
            raise _api.RefusedError(
                f"{self.index} has no SHA-256 hash of {path.rsplit('/', 1)[-1]}, as an old release of devpi stored it.",
                "Remove this release from the index, and upload it again.",
            )
        return str(found)


def find_index(api: _api.Api, name: str, option: str, check_mode: bool) -> dict[str, Any] | None:
    """Return the settings of a private index, None in check mode if it does not exist. Raises RefusedError."""
    found = api.find(f"/{name}?no_projects=")
    if found is None:
        if check_mode:
            return None
        raise _api.RefusedError(
            f"{option}: the index {name} does not exist.", "Check its name, or create it first, with devpi_index."
        )
    settings: dict[str, Any] = _api.described(api.from_server(found))
    if settings["type"] != "private":
        raise _api.RefusedError(f"{option}: {name} is a {settings['type']} index.", "Use a private index.")
    return settings


def check_upload(api: _api.Api, index: str, project: str) -> None:
    """Raise ApiError with status 401 or 403 if the user may not upload a project. Nothing is changed."""
    try:
        api.upload(f"/{index}/", *_distribution.probe_form(project))
    except _api.ApiError as exc:
        # devpi checks the permission, and then rejects the action of the form.
        if exc.status != 400:
            raise


def compared(wanted: dict[str, str], existing: dict[str, str]) -> dict[str, str]:
    """Return what happens to each file, by the hashes that are wanted and those of the index."""
    return {
        filename: "added" if filename not in existing else "unchanged" if existing[filename] == sha256 else "replaced"
        for filename, sha256 in wanted.items()
    }


def read_files(paths: list[str]) -> dict[str, _distribution.Distribution]:
    """Return the distributions by the names of their files. Raises RefusedError."""
    found: dict[str, _distribution.Distribution] = {}
    for path in paths:
        try:
            distribution = _distribution.read(path)
        except ValueError as exc:
            raise _api.RefusedError(
                f"Could not read {path}: {exc}.", "Set files to the paths of wheels and source distributions."
            ) from exc
        if distribution.filename in found:
            raise _api.RefusedError(f"files has {distribution.filename} twice.", "Remove one of both.")
        found[distribution.filename] = distribution
    return found


def projects_of(files: dict[str, _distribution.Distribution], filenames: Iterable[str]) -> list[str]:
    return sorted({files[filename].project for filename in filenames})


class Package:
    """The packages of an index, and what is wanted of them."""

    def __init__(self, api: _api.Api, params: dict[str, Any], check_mode: bool) -> None:
        self.api = api
        self.transfer_api = api.with_limit(params["transfer_timeout"])
        self.params = params
        self.check_mode = check_mode
        self.index = _api.check_index(params["index"], "index")
        self.settings = find_index(api, self.index, "index", check_mode)
        self.before: dict[str, str] = {}
        self.after: dict[str, str] = {}

    @property
    def is_volatile(self) -> bool:
        return self.settings is None or bool(self.settings["volatile"])

    def apply(self) -> dict[str, str]:
        """Make the packages as wanted, and return what happened to each file. Raises RefusedError."""
        if self.params["state"] == "absent":
            return self.remove()
        return self.copy() if self.params["copy_from"] else self.upload()

    def plan(self, wanted: dict[str, str], names: Iterable[str]) -> dict[str, str]:
        """Return what has to happen to each file of these projects. Raises RefusedError and ApiError."""
        for name in names:
            self.before.update(Project(self.api, self.index, name).hashes(wanted))
        self.after = {**self.before, **wanted}
        actions = compared(wanted, self.before)
        replaced = sorted(filename for filename, action in actions.items() if action == "replaced")
        if replaced and not self.is_volatile:
            raise _api.RefusedError(
                f"The index {self.index} is not volatile, and has other content for {', '.join(replaced)}.",
                "Release the change as a new version.",
            )
        return actions

    def check_permission(self, names: Iterable[str]) -> None:
        if self.settings is not None:
            for name in names:
                check_upload(self.api, self.index, name)

    def upload(self) -> dict[str, str]:
        files = read_files(self.params["files"])
        actions = self.plan({name: file.sha256 for name, file in files.items()}, projects_of(files, files))
        pending = [name for name, action in actions.items() if action != "unchanged"]
        self.check_permission(projects_of(files, pending))
        if self.check_mode:
            return actions
        for position, filename in enumerate(pending):
            try:
                self.transfer_api.upload(f"/{self.index}/", *_distribution.form(files[filename]))
            except (_api.ApiError, _devpi.ProbeError) as exc:
                done = ", ".join(pending[:position]) or "none"
                raise _api.RefusedError(
                    f"Could not upload {filename} to {self.index}: {failure(exc)}. Uploaded before it: {done}. "
                    f"Not uploaded: {', '.join(pending[position:])}.",
                    "Remove the cause, and run the task again.",
                    is_changed=True,
                ) from exc
        self.verify({name: files[name].sha256 for name in pending}, projects_of(files, pending))
        return actions

    def verify(self, wanted: dict[str, str], names: Iterable[str]) -> None:
        """Raise RefusedError if the index does not have the files."""
        existing: dict[str, str] = {}
        for name in names:
            existing.update(Project(self.api, self.index, name).hashes(wanted))
        wrong = sorted(filename for filename, sha256 in wanted.items() if existing.get(filename) != sha256)
        if wrong:
            raise _api.RefusedError(
                f"{self.index} does not have the content that was sent for {', '.join(wrong)}. Another program changed "
                "the file or the index at the same time.",
                "Run the task again.",
                is_changed=True,
            )

    def copy(self) -> dict[str, str]:
        name = _distribution.normalized(self.params["name"])
        version = self.params["version"]
        source_index = _api.check_index(self.params["copy_from"], "copy_from")
        if source_index == self.index:
            raise _api.RefusedError("copy_from and index are the same index.", "Set copy_from to another one.")
        find_index(self.api, source_index, "copy_from", self.check_mode)
        source = Project(self.api, source_index, name)
        files = source.releases.get(version)
        if not files:
            if self.check_mode and not source.releases:
                return {}
            raise _api.RefusedError(
                f"{source_index} has no files of {name} {version}.",
                f"Its versions are: {', '.join(sorted(source.releases)) or 'none'}.",
            )
        wanted = source.hashes(files)
        actions = self.plan(wanted, [name])
        present = sorted(filename for filename, action in actions.items() if action == "unchanged")
        if len(present) == len(actions):
            return actions
        # devpi copies all files of a release, and fails at the first one that a non-volatile index has.
        if present and not self.is_volatile:
            raise _api.RefusedError(
                f"The index {self.index} is not volatile, and has a part of {name} {version}: {', '.join(present)}. "
                "devpi can't copy the other files.",
                "Upload them with files.",
            )
        self.check_permission([name])
        if not self.check_mode:
            body = {"name": name, "version": version, "targetindex": self.index}
            self.transfer_api.call("POST", f"/{source_index}", body)
            self.verify(wanted, [name])
        return actions

    def remove(self) -> dict[str, str]:
        name = _distribution.normalized(self.params["name"])
        version = self.params["version"]
        project = Project(self.api, self.index, name)
        if version is None:
            path = project.path
            is_present = bool(project.releases)
            files = project.files
        else:
            path = f"{project.path}/{quote(version, safe='')}"
            is_present = version in project.releases
            files = project.releases.get(version, {})
        if not is_present:
            return {}
        if not self.is_volatile and not self.params["force"]:
            raise _api.RefusedError(
                f"{name} can't be removed, because the index {self.index} is not volatile, and clients may depend on it.",
                "To remove it nevertheless, set force to true.",
            )
        # A release can have no files.
        self.before = dict.fromkeys(files, "present") or {f"{name} {version or ''}".strip(): "present"}
        if not self.check_mode:
            self.api.call("DELETE", path + ("?force" if self.params["force"] else ""))
        return dict.fromkeys(self.before, "removed")


def failure(exc: Exception) -> str:
    """Return the cause of a failed upload in one line."""
    if isinstance(exc, _devpi.ProbeError):
        return f"{exc.detail} (a proxy can also limit the size of uploads)"
    if isinstance(exc, _api.ApiError) and exc.status == 413:
        return "it is larger than the server or a proxy accepts"
    return str(exc)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_devpi.CONNECTION_OPTIONS,
            "index": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "files": {"type": "list", "elements": "path"},
            "name": {"type": "str"},
            "version": {"type": "str"},
            "copy_from": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "transfer_timeout": {"type": "float", "default": 600},
        },
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        required_if=[("state", "present", ("files", "copy_from"), True), ("state", "absent", ("name",))],
        required_by={"copy_from": ("name", "version"), "version": ("name",)},
        mutually_exclusive=[("files", "copy_from"), ("files", "name")],
        supports_check_mode=True,
    )
    params = module.params
    if params["state"] == "absent" and params["copy_from"]:
        module.fail_json(msg="copy_from requires state present: remove one of both")
    with _api.failing(module):
        api = _api.log_in(params)
        action = f"change the packages of {params['index']}"
        remedy = "Use a user that acl_upload of the index names, or a token for this index and this project."
        with _api.permitted(params["url_username"], action, remedy):
            package = Package(api, params, module.check_mode)
            actions = package.apply()
    result: dict[str, Any] = {"changed": any(action != "unchanged" for action in actions.values()), "files": actions}
    if module._diff:
        result["diff"] = {"before": package.before, "after": package.after}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
