#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_index
short_description: Create, change or remove an index of a devpi server
description:
  - Creates, changes or removes a private index or a mirror index.
  - Only settings that differ are changed. Settings that are not given remain as they are.
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  name:
    description:
      - The name of the index with its user, as C(user/index). The user must exist.
    type: str
    required: true
  state:
    description:
      - Whether the index exists.
      - V(absent) removes it with its packages. A non-volatile index that has packages is removed with O(force) only. Other
        indexes keep the removed index in their O(bases), and devpi ignores it there.
    type: str
    choices: [absent, present]
    default: present
  type:
    description:
      - Whether the index has packages of its own (V(private), which devpi 6 calls C(stage) and devpi 7 C(local)), or those of
        O(mirror_url) (V(mirror), in devpi 7 C(remote)). The type of an existing index can't be changed.
      - A new index is V(private) by default.
    type: str
    choices: [mirror, private]
  bases:
    description:
      - The indexes from which a private index inherits packages, as C(user/index), in the order in which devpi searches them.
    type: list
    elements: str
  volatile:
    description:
      - Whether files can be replaced and removed. devpi's default is V(true).
    type: bool
  acl_upload:
    description:
      - The users who can upload to a private index. V(:ANONYMOUS:) stands for all, and V(:AUTHENTICATED:) for all who log in.
        devpi's default is the index's user.
      - The users must exist, unless O(external_users) is V(true). Names that begin with a colon are those of groups, which
        plugins of devpi can define.
    type: list
    elements: str
  acl_toxresult_upload:
    description:
      - The users who can upload results of tox to a private index. devpi's default is V(:ANONYMOUS:), which stands for all.
    type: list
    elements: str
  acl_read:
    description:
      - The users who can read a private index and the indexes that inherit from it. If the list is empty, which is the default,
        all users can read it. V(root) can always read it. The owner of the index, and users who can upload to it, can read it
        only if the list names them.
      - V(:AUTHENTICATED:) stands for all who log in.
      - This option needs the image of this collection.
    type: list
    elements: str
  mirror_whitelist:
    description:
      - The projects of a private index whose releases on mirror indexes are not hidden, V(*) for all projects. A project that
        is not in this list is inherited from mirror indexes only if no private index has it, which prevents dependency
        confusion.
      - devpi 7 supports an empty list and V(*).
    type: list
    elements: str
  mirror_whitelist_inheritance:
    description:
      - How O(mirror_whitelist) of an index and of its bases are combined.
    type: str
    choices: [intersection, union]
  mirror_url:
    description:
      - The URL of the simple page that a mirror index mirrors. It can't contain credentials, which devpi would store in its
        database.
    type: str
  mirror_web_url_fmt:
    description:
      - The URL of a project's web page, in which C({name}) stands for the project.
    type: str
  mirror_cache_expiry:
    description:
      - The number of seconds for which devpi does not request a page again. Without effect on indexes that the image of this
        collection serves.
    type: int
  mirror_no_project_list:
    description:
      - Whether devpi does not request the list of all projects, which large indexes need much memory for.
    type: bool
  mirror_use_external_urls:
    description:
      - Whether pages link to the files of the upstream.
    type: bool
  mirror_ignore_serial_header:
    description:
      - Whether devpi accepts pages with a lower serial number, as after a change of O(mirror_url). devpi 7 always does.
    type: bool
  mirror_provides_core_metadata:
    description:
      - Whether the upstream has core metadata of wheels. devpi 7 detects it.
    type: bool
  min_release_age:
    description:
      - How old a file of a mirror index must be, as a number and a unit (V(s), V(m), V(h) or V(d)), as in V(7d). Younger files
        are neither listed nor served. Empty for any age.
      - The upstream must list upload times. After a change, the module checks the files of O(upload_time_project). If they
        have no upload times, it restores the previous settings and fails. This is not checked in check mode.
      - This and the following options are package policies, which need the image of this collection.
    type: str
  upload_time_project:
    description:
      - A project of the upstream, with which the module checks whether the upstream lists upload times.
    type: str
    default: pip
  min_release_age_exceptions:
    description:
      - Requirements whose files are exempt from O(min_release_age), such as V(urllib3==2.5.1) for a security fix.
      - A requirement is the name of a project or a pattern with V(*), and optionally version specifiers, as in
        V(litellm==1.82.7), V(evil-*) and V(torch>=2,<3).
    type: list
    elements: str
  block:
    description:
      - Requirements whose files are hidden. It overrides O(allow).
    type: list
    elements: str
  allow:
    description:
      - Requirements whose files are listed and served. All other files are hidden, unless the list is empty.
    type: list
    elements: str
  hide_yanked:
    description:
      - Whether yanked files are hidden.
    type: bool
  title:
    description:
      - A short description, for web pages.
    type: str
  description:
    description:
      - A long description, for web pages.
    type: str
  custom_data:
    description:
      - Any data, which devpi stores and returns.
    type: raw
  external_users:
    description:
      - Whether ACLs can contain users that devpi does not have, such as those of an LDAP server.
    type: bool
    default: false
  force:
    description:
      - Whether to remove a non-volatile index that has packages, or that is a mirror index.
    type: bool
    default: false
attributes:
  check_mode:
    details:
      - The users and the bases of the index need not exist in check mode, as earlier tasks may create them.
  diff_mode:
    support: full
seealso:
  - module: devpi.mirror.devpi_user
  - module: devpi.mirror.devpi_index_info
"""

EXAMPLES = r"""
- name: Create an index for releases, which inherits from PyPI
  devpi.mirror.devpi_index:
    name: acme/stable
    bases: [root/pypi]
    volatile: false
    acl_upload: [release-bot]
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"

- name: Mirror another index
  devpi.mirror.devpi_index:
    name: root/company
    type: mirror
    mirror_url: https://packages.example.com/simple/
    mirror_no_project_list: true
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"

- name: Hide releases for a week, except a security fix, and block a malicious release
  devpi.mirror.devpi_index:
    name: root/pypi
    min_release_age: 7d
    min_release_age_exceptions: [urllib3==2.5.1]
    block: [litellm==1.82.7]
    url_username: root
    url_password: "{{ vault_devpi_root_password }}"
"""

RETURN = r"""
settings:
  description: The settings of the index, with the names of devpi 6. V(null) if it does not exist.
  returned: success
  type: dict
  sample: {"type": "private", "bases": ["root/pypi"], "volatile": false, "acl_upload": ["release-bot"]}
"""

import contextlib
import re
from typing import Any, Callable, Iterator
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi, _distribution
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import credentials

COMMON: dict[str, dict[str, Any]] = {
    "volatile": {"type": "bool"},
    "title": {"type": "str"},
    "description": {"type": "str"},
    "custom_data": {"type": "raw"},
}
PRIVATE: dict[str, dict[str, Any]] = {
    "bases": {"type": "list", "elements": "str"},
    "acl_upload": {"type": "list", "elements": "str"},
    "acl_toxresult_upload": {"type": "list", "elements": "str"},
    "acl_read": {"type": "list", "elements": "str"},
    "mirror_whitelist": {"type": "list", "elements": "str"},
    "mirror_whitelist_inheritance": {"type": "str", "choices": ["intersection", "union"]},
}
POLICIES: dict[str, dict[str, Any]] = {
    "min_release_age": {"type": "str"},
    "min_release_age_exceptions": {"type": "list", "elements": "str"},
    "block": {"type": "list", "elements": "str"},
    "allow": {"type": "list", "elements": "str"},
    "hide_yanked": {"type": "bool"},
}
MIRROR: dict[str, dict[str, Any]] = {
    "mirror_url": {"type": "str"},
    "mirror_web_url_fmt": {"type": "str"},
    "mirror_cache_expiry": {"type": "int"},
    "mirror_no_project_list": {"type": "bool"},
    "mirror_use_external_urls": {"type": "bool"},
    "mirror_ignore_serial_header": {"type": "bool"},
    "mirror_provides_core_metadata": {"type": "bool"},
    **POLICIES,
}
# Settings of the plugin of the collection's image.
IMAGE_PLUGIN = "devpi-mirror"
IMAGE_SETTINGS = ("acl_read", *POLICIES)
REQUIREMENTS = ("min_release_age_exceptions", "block", "allow")
ACLS = ("acl_upload", "acl_toxresult_upload", "acl_read")
# Lists whose order has no meaning.
SETS = (*ACLS, "mirror_whitelist", *REQUIREMENTS)
GROUPS = (":ANONYMOUS:", ":AUTHENTICATED:")
# The value of a setting that an index lacks.
EMPTY = {"bool": False, "list": [], "str": "", "int": None}
SETTINGS = {**COMMON, **PRIVATE, **MIRROR}
AGE = re.compile(r"(?:([0-9]+(?:[.][0-9]+)?)([smhd]))?")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# 100 years. devpi serves nothing of an index whose age limit is before the beginning of the calendar.
MAX_AGE_DAYS = 36525
# A name or a pattern, and the version specifiers of PEP 440. devpi serves nothing of an index that has an invalid requirement.
PATTERN = r"[A-Za-z0-9*](?:[A-Za-z0-9._*-]*[A-Za-z0-9*])?"
EPOCH = r"\s*v?(?:[0-9]+!)?"
SUFFIX = (
    r"(?:[-_.]?(?:alpha|a|beta|b|preview|pre|c|rc)[-_.]?[0-9]*)?"
    r"(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?(?:[-_.]?dev[-_.]?[0-9]*)?"
)
SPECIFIER = (
    rf"(?:[=!]={EPOCH}[0-9]+(?:\.[0-9]+)*(?:\.\*|{SUFFIX}(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?)"
    rf"|~={EPOCH}[0-9]+(?:\.[0-9]+)+{SUFFIX}|[<>]=?{EPOCH}[0-9]+(?:\.[0-9]+)*{SUFFIX}|===\s*[^\s;),]+)"
)
# Without ASCII, a letter such as the long s matches too.
REQUIREMENT = re.compile(rf"{PATTERN}\s*(?:{SPECIFIER}(?:\s*,\s*{SPECIFIER})*)?", re.IGNORECASE | re.ASCII)


def wanted_settings(params: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are given, as devpi stores them. Raises RefusedError."""
    found = {name: params[name] for name in SETTINGS if params[name] is not None}
    for name in (*SETS, "bases"):
        if name in found:
            found[name] = list_of(name, found[name])
    if "mirror_url" in found:
        check_mirror_url(found["mirror_url"])
    if "min_release_age" in found:
        found["min_release_age"] = age_of(found["min_release_age"].strip())
    if found.get("mirror_cache_expiry", 0) < 0:
        raise _api.RefusedError("mirror_cache_expiry is below zero.", "Use a number of seconds.")
    return found


def age_of(text: str) -> str:
    """Return a value of min_release_age. Raises RefusedError if it is invalid."""
    match = AGE.fullmatch(text)
    if match is None:
        raise _api.RefusedError(
            f"min_release_age is {text!r}.", "Use a number and a unit (s, m, h or d), as in 7d, or leave it empty."
        )
    if text and float(match[1]) * SECONDS[match[2]] > MAX_AGE_DAYS * SECONDS["d"]:
        raise _api.RefusedError(
            f"min_release_age is {text!r}, which is more than 100 years.", f"Use up to {MAX_AGE_DAYS}d, as in 7d."
        )
    return text


def upload_time_project(name: str) -> str:
    """Return the normalized name of the project with which upload times are checked. Raises RefusedError."""
    try:
        return _distribution.normalized(name)
    except ValueError as exc:
        raise _api.RefusedError(f"upload_time_project: {exc}.", "The default is pip.") from exc


def list_of(name: str, values: list[str]) -> list[str]:
    """Return the values of a list as devpi stores them, each once. Raises RefusedError."""
    found = [value.strip() for value in values]
    if not all(found):
        raise _api.RefusedError(f"{name} contains an empty value.", "Remove it; an empty list is valid.")
    if name == "bases":
        found = [_api.check_index(value, "bases:") for value in found]
    elif name in REQUIREMENTS:
        invalid = [value for value in found if not REQUIREMENT.fullmatch(value)]
        if invalid:
            raise _api.RefusedError(
                f"{name} contains {invalid[0]!r}, which is not a requirement.",
                f"Use a list of names or patterns with optional versions, as in {name}: "
                "['litellm==1.82.7', 'evil-*', 'torch>=2,<3'].",
            )
    elif name == "mirror_whitelist":
        found = [re.sub("[-_.]+", "-", value).lower() for value in found]
    else:
        found = [value.upper() if value.upper() in GROUPS else value for value in found]
    return list(dict.fromkeys(found))


def check_mirror_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        # The image of this collection does not accept a scheme in upper case.
        has_scheme = url.startswith(("http://", "https://"))
        is_valid = has_scheme and bool(parts.hostname) and not any(c.isspace() for c in url)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise _api.RefusedError(
            "mirror_url is not a valid URL.",
            "Use that of a simple page, with its scheme in lower case, as in https://example.com/simple/",
        )
    # A password with a slash that is not percent-encoded extends into the path.
    if "@" in url:
        raise _api.RefusedError(
            "mirror_url contains credentials, which devpi would store in its database.", "Remove them."
        )


def unsupported_by_server(names: list[str]) -> _api.RefusedError:
    """Return the error for settings of the image's plugin that the server lacks."""
    return _api.RefusedError(
        f"The server does not support {', '.join(names)}, for which it needs the image of this collection.",
        "Remove these settings, or run this image.",
    )


def users_of(acl: list[str]) -> list[str]:
    """Return the users in a list of users and groups."""
    return [name for name in acl if not name.startswith(":")]


def check_type(kind: str, wanted: dict[str, Any]) -> None:
    """Raise RefusedError if devpi would ignore a setting, because it belongs to the other type of index."""
    others = PRIVATE if kind == "mirror" else MIRROR
    unknown = sorted(set(wanted) & set(others))
    if unknown:
        raise _api.RefusedError(
            f"A {kind} index has no setting {', '.join(unknown)}.", "Remove it, or use the other type."
        )


def check_new(kind: str, wanted: dict[str, Any]) -> None:
    """Raise RefusedError if an index can't be created with these settings."""
    if kind == "mirror" and "mirror_url" not in wanted:
        raise _api.RefusedError(
            "A mirror index can't be created without mirror_url.", "Set it to the URL of the upstream's simple page."
        )


def is_equal(name: str, current: Any, wanted: Any) -> bool:
    """Return whether a setting has the value that is wanted."""
    if name == "custom_data":
        # devpi has no data by default, which any empty value stands for.
        return bool((current or None) == (wanted or None))
    if current is None:
        current = EMPTY[SETTINGS[name]["type"]]
    if name in SETS:
        return sorted(set(current)) == sorted(set(wanted))
    return bool(current == wanted)


def default_settings(kind: str, user: str) -> dict[str, Any]:
    """Return the settings that devpi gives a new index."""
    if kind == "mirror":
        return {"volatile": True}
    return {
        "volatile": True,
        "acl_upload": [user],
        "acl_toxresult_upload": [":ANONYMOUS:"],
        "bases": [],
        "mirror_whitelist": [],
        "mirror_whitelist_inheritance": "intersection",
    }


class MissingError(_api.RefusedError):
    """Another client has removed the index."""


class Index:
    """An index of a server, and what is wanted of it."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.name = _api.check_index(params["name"])
        self.user = self.name.split("/", maxsplit=1)[0]
        self.path = _api.index_path(self.name)
        self.params = params
        self.check_mode = check_mode
        self.wanted = wanted_settings(params)
        self.upload_time_project = upload_time_project(params["upload_time_project"])
        # The settings with the names of the server.
        self.stored: dict[str, Any] | None = None
        self.settings: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """``mirror`` or ``private``."""
        if self.settings is None:
            return str(self.params["type"] or "private")
        return str(_api.described(self.settings)["type"])

    def connect(self) -> None:
        """Log in, and read the index."""
        self.api = _api.log_in(self.params)
        self.stored = self.read()
        self.settings = None if self.stored is None else self.api.from_server(self.stored)

    def read(self) -> dict[str, Any] | None:
        """Return the settings of the index with the names of the server, None if it does not exist."""
        found: dict[str, Any] | None = self.api.find(f"{self.path}?no_projects=")
        return found

    def request(self, action: str, method: str, body: Any = None) -> Any:
        """Return the result of a request that changes or removes the index. Raises RefusedError."""
        try:
            return self.api.change(action, method, self.path, body)
        except _api.RefusedError as exc:
            if method != "PUT" and self.is_missing(exc):
                raise MissingError(
                    f"Could not {action}: another client has removed it.", "Run the task again."
                ) from exc
            raise

    def is_missing(self, refused: _api.RefusedError) -> bool:
        """Return whether a request was refused because the index does not exist. devpi responds as to a missing permission."""
        try:
            return getattr(refused.__cause__, "status", None) in (403, 404) and self.read() is None
        except (_api.ApiError, _devpi.ProbeError):
            return False

    def apply(self) -> dict[str, Any] | None:
        """Make the index as wanted, and return its settings after that. Raises RefusedError."""
        if self.params["state"] == "absent":
            if self.settings is not None:
                self.remove()
            return None
        if self.params["type"] not in (None, self.kind):
            raise _api.RefusedError(
                f"{self.name} is a {self.kind} index, and devpi can't change the type of an index.",
                "Set type to that of the index, or remove the index first.",
            )
        check_type(self.kind, self.wanted)
        if self.settings is None:
            return self.create()
        return self.change(self.settings)

    def create(self) -> dict[str, Any]:
        check_new(self.kind, self.wanted)
        if not self.check_mode and self.api.find(f"/{_api.quoted(self.user)}") is None:
            raise _api.RefusedError(
                f"The index {self.name} can't be created, because the user {self.user} does not exist.",
                "Create the user first, with devpi_user.",
            )
        self.check_bases(self.wanted.get("bases", []))
        self.check_users(self.wanted)
        types = {ours: theirs for theirs, ours in _api.TYPES.items()}
        # Third-party images refuse these settings, even empty ones.
        empty = [name for name in IMAGE_SETTINGS if name in self.wanted and is_equal(name, None, self.wanted[name])]
        settings = {
            "type": types[self.kind],
            **{name: value for name, value in self.wanted.items() if name not in empty},
        }
        body = self.api.to_server(settings)
        if self.check_mode:
            self.check_image([name for name in IMAGE_SETTINGS if name in body])
            return {**default_settings(self.kind, self.user), **settings}
        found = self.send(f"create the index {self.name}", "PUT", body)
        is_volatile = found.get("volatile", True)
        with self.undone_by(lambda: self.delete("remove the new index", is_volatile)):
            self.check_upload_times(self.wanted, found)
        return found

    def change(self, settings: dict[str, Any]) -> dict[str, Any]:
        changed = {name: value for name, value in self.wanted.items() if not is_equal(name, settings.get(name), value)}
        self.check_bases(changed.get("bases", []))
        self.check_users(changed)
        body = self.body(changed)
        if not changed:
            return settings
        if self.check_mode:
            # Indexes that an earlier image created can lack newer settings.
            self.check_image([name for name in IMAGE_SETTINGS if name in changed and name not in settings])
            return {**settings, **changed}
        found = self.send(f"change the index {self.name}", "PATCH", body)
        with self.undone_by(lambda: self.restore(settings, changed)):
            self.check_upload_times(changed, found)
        return found

    def send(self, action: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send settings, and return those of the index after that. Raises RefusedError."""
        try:
            stored = self.request(action, method, body)
        except _api.RefusedError as exc:
            unsupported = [name for name in IMAGE_SETTINGS if name in body]
            if unsupported and "unexpected keyword arguments" in exc.cause:
                raise unsupported_by_server(unsupported) from exc
            raise
        return self.verified(stored)

    def check_image(self, names: list[str]) -> None:
        """Raise RefusedError if there are settings, and the server does not run the image of this collection."""
        if not names:
            return
        try:
            status = self.api.call("GET", "/+status")
        except (_api.ApiError, _devpi.ProbeError):
            # A proxy can restrict this path.
            return
        if IMAGE_PLUGIN not in status["versioninfo"]:
            raise unsupported_by_server(names)

    def restore(self, settings: dict[str, Any], changed: dict[str, Any]) -> None:
        """Restore the settings that the index had before a change."""
        action = f"restore the settings of {self.name}"
        old = {
            name: settings.get(name, EMPTY[SETTINGS[name]["type"]])
            for name in changed
            if name in settings or name in IMAGE_SETTINGS
        }
        self.request(action, "PATCH", self.body(old))
        added = self.api.to_server({name: None for name in changed if name not in old})
        if added:
            self.request(action, "PATCH", [f"{name}-=" for name in added])

    def check_upload_times(self, changed: dict[str, Any], settings: dict[str, Any]) -> None:
        """Raise RefusedError if a change requires upload times, and the upstream lists none."""
        if not settings.get("min_release_age") or not {"min_release_age", "mirror_url"} & set(changed):
            return
        project = self.upload_time_project
        try:
            found = self.api.find(f"{self.path}/+policy/{project}")
        except _api.ApiError as exc:
            raise _api.RefusedError(
                f"Could not check whether the upstream of {self.name} lists upload times, which min_release_age needs: {exc}.",
                "Check that the upstream is reachable, and set upload_time_project to a project that it has.",
            ) from exc
        if found is None:
            raise _api.RefusedError(
                f"The upstream of {self.name} has no project {project}, with which the module checks the upload times that "
                "min_release_age needs.",
                "Set upload_time_project to a project that the upstream has.",
            )
        if any(file["rule"].endswith("no upload time") for file in found["hidden"]):
            raise _api.RefusedError(
                f"The upstream of {self.name} lists no upload times, which min_release_age needs, for files of {project}.",
                "Remove min_release_age, or mirror an index that lists them, such as PyPI.",
            )

    @contextlib.contextmanager
    def undone_by(self, undo: Callable[[], None]) -> Iterator[None]:
        """Undo an earlier change if the block fails. Raises RefusedError if that fails too."""
        try:
            yield
        except MissingError:
            raise
        except (_api.RefusedError, _devpi.ProbeError) as exc:
            try:
                undo()
            except (_api.RefusedError, _devpi.ProbeError) as failed:
                raise _api.RefusedError(
                    f"{exc} The index {self.name} was changed before that, and could not be restored: {failed}",
                    "Restore its settings with devpi_index.",
                    is_changed=True,
                ) from exc
            raise

    def body(self, changed: dict[str, Any]) -> dict[str, Any]:
        """Return what changes settings. devpi resets the settings of plugins that a request lacks."""
        of_plugins = {
            name: value
            for name, value in (self.stored or {}).items()
            if name not in ("type", "projects")
            and not set(self.api.from_server({name: value})) & (set(SETTINGS) - set(IMAGE_SETTINGS))
        }
        return {**of_plugins, **self.api.to_server(changed)}

    def verified(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return the settings after a change. Raises RefusedError if devpi has ignored a part of it."""
        settings = self.api.from_server(stored)
        ignored = [name for name, value in self.wanted.items() if not is_equal(name, settings.get(name), value)]
        if ignored:
            raise _api.RefusedError(
                f"devpi accepted the settings of {self.name}, but did not store {', '.join(ignored)}. The other settings were "
                "changed.",
                "Check which values this release of devpi-server supports.",
                is_changed=True,
            )
        return settings

    def check_bases(self, bases: list[str]) -> None:
        """Raise RefusedError for a base that does not exist, or that inherits from this index."""
        remaining = list(bases)
        seen = set()
        while remaining:
            base = remaining.pop(0)
            if base == self.name:
                raise _api.RefusedError(
                    f"bases of {self.name} would make the index inherit from itself.",
                    "Remove the base that is, or inherits from, this index.",
                )
            if base in seen:
                continue
            seen.add(base)
            found = self.api.find(f"{_api.index_path(base)}?no_projects=")
            if found is not None:
                remaining += found.get("bases", [])
            elif base in bases and not self.check_mode:
                raise _api.RefusedError(
                    f"bases contains {base}, which does not exist.", "Create this index first, or remove it from bases."
                )

    def check_users(self, changed: dict[str, Any]) -> None:
        """Raise RefusedError for a user who does not exist."""
        if self.params["external_users"]:
            return
        for option in ACLS:
            for user in users_of(changed.get(option, [])):
                if not self.check_mode and self.api.find(f"/{_api.quoted(user)}") is None:
                    raise _api.RefusedError(
                        f"{option} contains {user}, and this user does not exist.",
                        f"Create the user first, with devpi_user, or remove it from {option}.",
                    )

    def remove(self) -> None:
        is_volatile = (self.settings or {}).get("volatile", True)
        if not is_volatile and not self.params["force"]:
            reason = "is a mirror index" if self.kind == "mirror" else ""
            if not reason and self.api.call("GET", self.path)["projects"]:
                reason = "has packages"
            if reason:
                raise _api.RefusedError(
                    f"{self.name} can't be removed, because it is not volatile and {reason}.",
                    "To remove it nevertheless, set force to true.",
                )
        if self.check_mode:
            return
        with contextlib.suppress(MissingError):
            self.delete(f"remove the index {self.name}", is_volatile)

    def delete(self, action: str, is_volatile: bool) -> None:
        if is_volatile:
            self.request(action, "DELETE")
            return
        self.request(action, "PATCH", self.body({"volatile": True}))
        with self.undone_by(lambda: self.request(action, "PATCH", self.body({"volatile": False}))):
            self.request(action, "DELETE")


def described(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if settings is None else _api.described(settings)


def difference(settings: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings for the diff: those that the module knows, as plugins of devpi add others.

    The collection's image adds empty settings of its own to a new index.
    """
    return {
        name: value
        for name, value in (settings or {}).items()
        if name == "type" or (name in SETTINGS and not (name in IMAGE_SETTINGS and is_equal(name, None, value)))
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Return the result of the module. Raises RefusedError, ApiError, ProbeError and ValueError."""
    index = Index(module.params, module.check_mode)
    index.connect()
    before = described(index.settings)
    after = described(index.apply())
    result = {"changed": before != after, "settings": after}
    if module._diff:
        result["diff"] = {"before": difference(before), "after": difference(after)}
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_devpi.CONNECTION_OPTIONS,
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
            "type": {"type": "str", "choices": ["mirror", "private"]},
            **SETTINGS,
            "upload_time_project": {"type": "str", "default": "pip"},
            "external_users": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
        },
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    # The value is part of the output of a failed task.
    module.no_log_values.update(credentials(module.params["mirror_url"] or ""))
    with _api.failing(module):
        result = run(module)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
