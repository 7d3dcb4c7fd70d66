# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to files at the upstream. A cached page can have an outdated one: signed URLs expire, and files are moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from .pages import File
from .upstream import DENIED, Upstream, UpstreamError

T = TypeVar("T")


class Target(NamedTuple):
    """A file as the page of an upstream lists it, with its URL."""

    upstream: Upstream
    file: File


class Link:
    """A link to a file.

    ``find_current`` returns the target that the upstream's current page has, and ``find_in_fallback`` that of the same file at
    another upstream. ``is_of_fallback`` is whether the page itself is the fallback's.
    """

    def __init__(
        self,
        target: Target,
        find_current: Callable[[], Target | None] = lambda: None,
        find_in_fallback: Callable[[], Target | None] = lambda: None,
        *,
        is_of_fallback: bool = False,
    ) -> None:
        self.target = target
        self.find_current = find_current
        self.find_in_fallback = find_in_fallback
        self.is_of_fallback = is_of_fallback

    @property
    def file(self) -> File:
        return self.target.file

    @property
    def url(self) -> str:
        return str(self.file["url"])

    def request(self, send: Callable[[Upstream, File], T]) -> T:
        """Return what ``send`` returns for the target, and if that is denied or unreachable, for another target of the link.

        Raises what ``send`` raises.
        """
        try:
            return send(*self.target)
        except UpstreamError as exc:
            other = self.other_target(exc)
            if other is None or other.file["url"] == self.url:
                raise
        self.target = other
        return send(*other)

    def other_target(self, error: UpstreamError) -> Target | None:
        """Return a target that may have the file after this error, or None."""
        if error.status in DENIED:
            return self.find_current()
        return self.find_in_fallback() if error.permits_fallback else None
