# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to this mirror in place of the upstream's, and a list of the upstream's links, in which single files are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap
from urllib.parse import quote

import orjson

from .pages import File, Page, PageError, link_to, listed_metadata, path_of

# Characters that need no quoting in a URL, without the slash.
PLAIN = re.compile(r"[A-Za-z0-9._~+!-]+")
# The keys of a file in a listing: those that downloads, core metadata, prefetching and policies need.
LISTED = ("filename", "url", "hashes", "size", "core-metadata", "dist-info-metadata", "yanked", "upload-time")
# Files that are serialized in one call. Each call of orjson has a fixed cost, and more files take more memory.
BATCH = 1000
# The start and the end of an entry of a listing. Everything inside of it has a deeper indentation, and a text in JSON has no
# line feed.
ENTRY_START, ENTRY_END = b'\n  "', b"\n  }"


def localize(page: Page, index: str) -> bytes:
    """Replace the links of a page by links to this mirror, and return the listing of its files with the upstream's links.

    The links lead from the page of a project of any index to the files of ``index``. pip takes half as long again for a link
    with a plus sign, so they have ``-f`` in place of devpi's ``+f``. Core metadata is promised for wheels of which the upstream
    lists none. The listing is a JSON object of files by path, see ``Listing``. Raises PageError.
    """
    folder = link_to(f"{index}/")
    listing = bytearray()
    for start in range(0, len(page["files"]), BATCH):
        entries: dict[str, File] = {}
        for file in page["files"][start : start + BATCH]:
            path = path_of(file)
            # The first of several files with the same path is listed. ``Listing.find`` also finds it in an earlier batch.
            if path not in entries:
                entries[path] = {key: file[key] for key in LISTED if key in file}
            parent, name = path.rsplit("/", 1)
            name = name if PLAIN.fullmatch(name) else quote(name, safe="+!~")
            file["url"] = f"{folder}-{parent[1:]}/{name}" if parent.startswith("+f/") else f"{folder}{parent}/{name}"
            if name.endswith(".whl") and not listed_metadata(file):
                file["core-metadata"] = True
        try:
            listing += orjson.dumps(entries, option=orjson.OPT_INDENT_2)
        except TypeError as exc:
            raise PageError(f"the response has a file that can't be listed ({exc})") from exc
    return bytes(listing)


class Listing:
    """The listing of ``localize``, which is searched without being copied or parsed.

    ``content`` has the listing from ``start`` to its end. It can be a file of any size that is mapped into memory.
    """

    def __init__(self, content: bytes | mmap, start: int = 0) -> None:
        self.content = content
        self.start = start

    def find(self, path: str) -> File | None:
        """Return the file that has a path below its index."""
        key = orjson.dumps(path).removeprefix(b'"')
        start = self.content.find(ENTRY_START + key + b": ", self.start)
        return None if start < 0 else self.entry(start)[1]

    def newest_first(self) -> Iterator[tuple[str, File]]:
        """Yield paths and files, the last one first: indexes list new releases last."""
        start = len(self.content)
        while (start := self.content.rfind(ENTRY_START, self.start, start)) >= 0:
            yield self.entry(start)

    def entry(self, start: int) -> tuple[str, File]:
        """Return the path and the file of the entry that begins at ``start``."""
        end = self.content.find(ENTRY_END, start) + len(ENTRY_END)
        ((path, file),) = orjson.loads(b"{%s}" % self.content[start:end]).items()
        return path, file
