# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse the simple pages of an upstream: JSON (PEP 691), or HTML (PEP 503), which is converted to the same object."""

from __future__ import annotations

import codecs
import re
from email.message import Message
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import orjson

from .digests import ALGORITHMS
from .pages import HTML, JSON, STATUS, TEXT_HTML, File, Page, PageError

# The header of a request for a page. An upstream that serves neither JSON nor HTML under these names sends text/html.
ACCEPT = f"{JSON}, {HTML};q=0.2, {TEXT_HTML};q=0.01"

# The extensions of a project's files, in lower case, as pip and its predecessors know them. Other links of an HTML page lead to
# other pages.
EXTENSIONS = (
    *(".whl", ".egg", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.z", ".tar.xz", ".txz"),
    *(".tar.lz", ".tlz", ".tar.lzma", ".exe", ".msi", ".rpm", ".deb", ".dmg"),
)
# Attributes of a link in HTML, without "data-", that have another key in JSON.
ATTRIBUTES = {"dist-info-metadata": "core-metadata"}
# Keys whose values are not in an attribute but in the link itself.
OF_LINK = ("filename", "url", "hashes")
# Sizes that fit into an integer of JSON.
SIZE = re.compile(r"[0-9]{1,15}")
# The title that identifies a simple page without files.
TITLE = re.compile("links for ", re.IGNORECASE)

# What parsing a page costs: in JSON 1 for each value and 2 for each object or list, in HTML 8 for each element and 4 for each
# attribute. The page of ddtrace costs up to 1.7 million, depending on the fields that an index lists. 3 million take 300 MB.
COMPLEXITY_LIMIT = 3_000_000
# HTML is parsed in pieces of this many characters. A larger element, which can have any number of attributes, is an error.
PIECE = 65_536

# Python takes minutes to decode a page in one of these.
SLOW_CHARSETS = ("idna", "punycode")
# The longest file name that file systems allow, in bytes.
NAME_LIMIT = 255
# Control characters and line separators, which break a header or a line, and surrogates, which UTF-8 does not allow but some
# encodings of HTML do. None of them is printable.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# A hash in the fragment of a link in HTML, which can have other parts before and after it. A value that is no digest of its
# algorithm is preserved, so that the file is refused rather than stored without being verified.
FRAGMENT_HASH = re.compile(rf"(?:^|&)(?P<algorithm>{'|'.join(ALGORITHMS)})=(?P<digest>[0-9a-fA-F]{{16,}})(?=&|$)")


def parse(content: bytes, content_type: str, url: str) -> Page:
    """Return the page that the upstream has at ``url``. Raises PageError."""
    header = Message()
    header["Content-Type"] = content_type
    kind = header.get_content_type()
    charset = str(header.get_content_charset("utf-8"))
    is_json = kind == "application/json" or kind.endswith("+json")
    if is_json:
        require_simplicity(content)
        page = parse_json(content)
    elif kind in (TEXT_HTML, HTML, "application/xhtml+xml"):
        page = parse_html(content, charset, url)
    else:
        raise PageError(f"the response has the content type {kind}, which is not that of a simple page")
    origin = "/".join(url.split("/", 3)[:3])
    files = []
    for file in page["files"]:
        link = file["url"]
        if "#" in link:
            # The fragment is not part of the location, and ".metadata" is appended to the URL.
            link = file["url"] = link.partition("#")[0]
        # urljoin takes longer than the rest of the parsing, and these are most links.
        if link.startswith("/") and link[1:2] != "/" and "/." not in link:
            file["url"] = origin + link
        elif not link.startswith(("https://", "http://")) or "[" in link or "]" in link or not link.isascii():
            file["url"] = joined(url, link)
        # A link that is no URL must not make the project's other files unavailable.
        if file["url"] and is_safe(file["filename"]):
            files.append(file)
    page["files"] = files
    return page


def joined(base: str, link: str) -> str:
    """Return the URL that a link leads to, or an empty text if it is no URL."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""


def require_simplicity(content: bytes) -> None:
    """Raise PageError for JSON that takes too much memory to be parsed, which can be small while it is compressed."""
    # Each byte adds 2 at most.
    if len(content) * 2 > COMPLEXITY_LIMIT:
        values, containers = (sum(map(content.count, signs)) for signs in ((b",", b":"), (b"{", b"[")))
        limit_complexity(values + 2 * containers)


def limit_complexity(complexity: int) -> None:
    if complexity > COMPLEXITY_LIMIT:
        raise PageError("the response has too many values to be parsed")


def is_safe(filename: str) -> bool:
    """Return whether a file name can be the last part of a path."""
    # Most names are printable, which is faster to check.
    if "/" in filename or "\\" in filename or (not filename.isprintable() and UNSAFE.search(filename)):
        return False
    return filename not in ("", ".", "..") and len(filename.encode()) <= NAME_LIMIT


def parse_json(content: bytes) -> Page:
    try:
        page = orjson.loads(content)
    except ValueError as exc:
        raise PageError(f"the response is not JSON ({exc})") from exc
    files = page.get("files") if isinstance(page, dict) else None
    if not isinstance(files, list):
        raise PageError("the response is JSON, but not a simple page")
    if not all(
        isinstance(file, dict) and isinstance(file.get("filename"), str) and isinstance(file.get("url"), str)
        for file in files
    ):
        raise PageError("the response lists a file that has no name or no URL")
    meta = page.get("meta")
    require_version(str(meta.get("api-version", "1.0")) if isinstance(meta, dict) else "1.0")
    return dict(page)


def require_version(version: str) -> None:
    """Raise PageError for a version of the simple repository API that this module does not support."""
    if version.partition(".")[0] != "1":
        raise PageError(
            f"the response has version {version} of the simple repository API, and only version 1 is supported"
        )


class Anchors(HTMLParser):
    """Collects the links of an HTML page, its base URL, its ``pypi:`` meta elements and its title and heading."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[dict[str, str]] = []
        self.metas: list[tuple[str, str]] = []
        self.titles: list[str] = []
        self.complexity = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Raises PageError."""
        self.complexity += 8 + 4 * len(attrs)
        limit_complexity(self.complexity)
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes)
        elif tag == "base" and not self.base:
            self.base = attributes.get("href", "")
        elif tag == "meta" and attributes.get("name", "").startswith("pypi:"):
            self.metas.append((attributes["name"], attributes.get("content", "")))

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("title", "h1"):
            self.titles.append(data.strip())


def anchors_of(text: str) -> Anchors:
    """Return the links, the meta elements and the titles of a page in HTML. Raises PageError."""
    limit_complexity(8 * text.count("<"))
    anchors = Anchors()
    try:
        for start in range(0, len(text), PIECE):
            anchors.feed(text[start : start + PIECE])
            # rawdata is the start of an element whose end has not been found.
            if len(anchors.rawdata) >= PIECE:
                raise PageError("the response has an element that is too large to be parsed")
        anchors.close()
    except PageError:
        raise
    # html.parser raises these for invalid declarations and character references.
    except (AssertionError, ValueError) as exc:
        raise PageError(f"the response can't be parsed ({exc})") from exc
    return anchors


def parse_html(content: bytes, charset: str, url: str) -> Page:
    try:
        if codecs.lookup(charset).name in SLOW_CHARSETS:
            raise ValueError(f"its charset is {charset}, which no page has")
        text = content.decode(charset)
    except (LookupError, ValueError) as exc:
        raise PageError(f"the response can't be decoded ({exc})") from exc
    anchors = anchors_of(text)
    base = joined(url, anchors.base) or url
    files = [file for file in (file_of(link, base) for link in anchors.links) if file]
    metas = dict(anchors.metas)
    if not files and not metas and not any(map(TITLE.match, anchors.titles)):
        # For example the page of a proxy that requires a login. Pages of PyPI and devpi have meta elements, most others a
        # title.
        raise PageError("the response is an HTML page without links to files")
    version = metas.get("pypi:repository-version", "1.0")
    require_version(version)
    page: Page = {"meta": {"api-version": version}, "files": files}
    if STATUS in metas:
        reason = metas.get(f"{STATUS}-reason")
        page["project-status"] = {"status": metas[STATUS], **({"reason": reason} if reason else {})}
    for name, place, key in (
        ("pypi:tracks", page["meta"], "tracks"),
        ("pypi:alternate-locations", page, "alternate-locations"),
    ):
        values = [value for found, value in anchors.metas if found == name]
        if values:
            place[key] = values
    return page


def file_of(link: dict[str, str], base: str) -> File | None:
    """Return the file that a link of an HTML page leads to, or None if it leads to something else."""
    parts = urlsplit(joined(base, link["href"].strip()))
    filename = unquote(parts.path.rpartition("/")[2])
    if parts.scheme not in ("http", "https") or not filename.lower().endswith(EXTENSIONS):
        return None
    found = FRAGMENT_HASH.search(parts.fragment)
    file: File = {
        "filename": filename,
        "url": parts._replace(fragment="").geturl(),
        "hashes": {found["algorithm"]: found["digest"].lower()} if found else {},
    }
    for name, value in link.items():
        key = name.removeprefix("data-")
        if key == name or key in OF_LINK or (key == "size" and not SIZE.fullmatch(value)):
            continue
        key, found_value = ATTRIBUTES.get(key, key), value_of(key, value)
        # The newer of the two names of core metadata can have a hash while the older one has none.
        if not isinstance(file.get(key), dict):
            file[key] = found_value
    return file


def value_of(key: str, text: str) -> Any:
    """Return the value in JSON for the text of an attribute in HTML."""
    if key == "yanked":
        return text or True
    if key == "gpg-sig":
        return text == "true"
    if key == "size":
        return int(text)
    if key in ("core-metadata", "dist-info-metadata"):
        algorithm, equals, digest = text.partition("=")
        return {algorithm: digest} if equals else text == "true"
    return text
