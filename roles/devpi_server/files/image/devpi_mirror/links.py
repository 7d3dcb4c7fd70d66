# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to files at the upstream. A cached page can have an outdated one: signed URLs expire, and files are moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .pages import File
from .upstream import DENIED, UpstreamError

T = TypeVar("T")


class Link:
    """A file that a page lists, with its URL. ``find_current`` returns the file as the upstream's current page lists it."""

    def __init__(self, file: File, find_current: Callable[[], File | None]) -> None:
        self.file = file
        self.find_current = find_current

    @property
    def url(self) -> str:
        return str(self.file["url"])

    def request(self, send: Callable[[File], T]) -> T:
        """Return what ``send`` returns for the file, and if the upstream denies it, for the file on the current page.

        Raises what ``send`` raises.
        """
        try:
            return send(self.file)
        except UpstreamError as exc:
            current = self.find_current() if exc.status in DENIED else None
            if current is None or current["url"] == self.url:
                raise
        self.file = current
        return send(current)
