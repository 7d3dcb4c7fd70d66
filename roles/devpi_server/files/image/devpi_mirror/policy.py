# SPDX-License-Identifier: GPL-3.0-or-later
"""Package policies: which files of a mirror index are neither listed nor served.

The rules are settings of the index, which devpi stores. What a rule can't decide, such as the age of a file without an upload
time, is hidden.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .maintenance.limits import SECONDS, parse_amount
from .pages import File, Page
from .parsing import EXTENSIONS
from .upstream import UpstreamError

# The settings of a mirror index, with their defaults.
DEFAULTS: dict[str, Any] = {
    "min_release_age": "",
    "min_release_age_exceptions": [],
    "block": [],
    "allow": [],
    "hide_yanked": False,
}
REQUIREMENT = re.compile(r"([A-Za-z0-9*](?:[A-Za-z0-9._*-]*[A-Za-z0-9*])?)\s*([<>=!~].*)?", re.DOTALL)
# The end of the name of a file that depends on a platform, after its version.
PLATFORM = re.compile(r"-py\d.*|\.(?:win|linux|macosx)[-_.0-9a-z].*", re.IGNORECASE)


class PolicyError(ValueError):
    """A rule is invalid. The message names it."""


class Hidden(NamedTuple):
    """Why a file is hidden, and when it becomes available, or None if that depends on more than the time."""

    rule: str
    available_at: datetime | None = None

    def described(self) -> dict[str, str | None]:
        """Return the rule and the time, in UTC, as JSON."""
        at = self.available_at
        return {"rule": self.rule, "available_at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else None}

    def __str__(self) -> str:
        at = self.described()["available_at"]
        return f"{self.rule}, available at {at}" if at else self.rule


class HiddenError(UpstreamError):
    """A policy hides the requested file. ``reason`` is a short text for the status line of the response."""

    def __init__(self, filename: str, hidden: Hidden) -> None:
        super().__init__(f"{filename} is hidden by the mirror's policy: {hidden}", 403)
        self.reason = "".join(sign if " " <= sign <= "~" else "?" for sign in f"Hidden by {hidden}")


class Requirement:
    """A project, or several by a pattern, and versions of it, as in ``litellm==1.82.7`` or ``evil-*``. Raises PolicyError."""

    def __init__(self, text: str) -> None:
        self.text = text
        found = REQUIREMENT.fullmatch(text.strip())
        if not found:
            raise PolicyError(f"{text!r} is not the name of a project with optional versions")
        name, versions = found.groups()
        parts = canonicalize_name(name).split("*")
        self.name = re.compile(".*".join(map(re.escape, parts)))
        try:
            self.versions = SpecifierSet(versions or "")
        except InvalidSpecifier as exc:
            raise PolicyError(f"{text!r} has an invalid version ({exc})") from exc

    def covers(self, project: str, filename: str, *, otherwise: bool) -> bool:
        """Return whether this names the release of a file. ``otherwise`` is the result for a file whose version is unknown."""
        if not self.name.fullmatch(project):
            return False
        if not self.versions:
            return True
        version = version_of(filename, project)
        return otherwise if version is None else self.versions.contains(version, prereleases=True)


def version_of(filename: str, project: str) -> Version | None:
    """Return the version in the name of a project's file, or None if it has none that can be compared."""
    stem = filename
    for extension in EXTENSIONS:
        if filename.lower().endswith(extension):
            stem = filename[: -len(extension)]
    if filename.endswith(".whl"):
        text = stem.split("-", 2)[1] if "-" in stem else ""
    else:
        # Where the version begins is known only from the project's name, which can have hyphens too.
        ends = (i for i, sign in enumerate(stem) if sign == "-" and canonicalize_name(stem[:i]) == project)
        text = PLATFORM.sub("", stem[next(ends, len(stem)) + 1 :])
    try:
        return Version(text)
    except InvalidVersion:
        return None


def uploaded(file: File) -> datetime | None:
    """Return when a file was uploaded, or None if the upstream does not list it."""
    try:
        time = datetime.fromisoformat(str(file.get("upload-time", "")))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class Policy:
    """The rules of a mirror index. ``tag`` changes with them. Raises PolicyError for invalid rules."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.min_age_text = str(settings["min_release_age"])
        try:
            self.min_age = timedelta(seconds=parse_amount(self.min_age_text, SECONDS))
        except (ValueError, OverflowError) as exc:
            raise PolicyError(f"min_release_age: {exc}") from exc
        self.exceptions, self.block, self.allow = (
            [Requirement(str(text)) for text in settings[name]]
            for name in ("min_release_age_exceptions", "block", "allow")
        )
        self.hide_yanked = bool(settings["hide_yanked"])
        self.tag = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def hides(self, project: str, file: File, now: datetime) -> Hidden | None:
        """Return why a file is hidden at ``now``, or None if it is not."""

        def first(requirements: Iterable[Requirement], *, otherwise: bool) -> Requirement | None:
            return next(
                (one for one in requirements if one.covers(project, file["filename"], otherwise=otherwise)), None
            )

        blocked = first(self.block, otherwise=True)
        if blocked:
            return Hidden(f"block: {blocked.text}")
        if self.allow and not first(self.allow, otherwise=False):
            return Hidden("allow: the release is not in this list")
        if self.hide_yanked and file.get("yanked"):
            return Hidden("hide_yanked")
        if not self.min_age or first(self.exceptions, otherwise=False):
            return None
        rule = f"min_release_age: {self.min_age_text}"
        time = uploaded(file)
        if time is None:
            return Hidden(f"{rule}, no upload time")
        if now - time >= self.min_age:
            return None
        with suppress(OverflowError):
            return Hidden(rule, (time + self.min_age).astimezone(UTC))
        return Hidden(rule)

    def apply(self, project: str, page: Page, now: datetime) -> tuple[Page, list[Hidden]]:
        """Return the page without hidden files and without versions that have no other files, and why files are hidden."""
        reasons = [(file, self.hides(project, file, now)) for file in page["files"]]
        hidden = [reason for _file, reason in reasons if reason]
        if not hidden:
            return page, hidden
        listed = [file for file, reason in reasons if not reason]
        remaining = {version_of(file["filename"], project) for file in listed}
        removed = {version_of(file["filename"], project) for file, reason in reasons if reason} - remaining
        versions = page.get("versions")
        if isinstance(versions, list):
            page = {**page, "versions": [text for text in versions if parsed(text) not in removed]}
        return {**page, "files": listed}, hidden


def parsed(text: Any) -> Version | None:
    try:
        return Version(str(text))
    except InvalidVersion:
        return None


@lru_cache(maxsize=64)
def policy_from(settings: str) -> Policy | None:
    values = json.loads(settings)
    return None if values == DEFAULTS else Policy(values)


def policy_of(config: Mapping[str, Any]) -> Policy | None:
    """Return the policy in the settings of an index, or None if it has no rules. Raises PolicyError for invalid rules."""
    return policy_from(json.dumps({name: config.get(name, default) for name, default in DEFAULTS.items()}))
