"""Simple pages of mirror indexes: the upstream's page with other links, and nothing else changed.

A page is the JSON object of the simple repository API (PEP 691) with absolute URLs. One that the upstream has as HTML (PEP 503)
is converted to it. All fields are preserved, those that this module does not know included.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from email.message import Message
from html import escape
from html.parser import HTMLParser
from mmap import mmap
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import orjson
from packaging.utils import canonicalize_name

from .digests import ALGORITHMS, is_digest

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
TEXT_HTML = "text/html"
# What is requested of an upstream. One that knows neither JSON nor HTML by these names has text/html.
ACCEPT = f"{JSON}, {HTML};q=0.2, {TEXT_HTML};q=0.01"

# What pip and its predecessors take for a file of a project, in lower case. Other links of an HTML page lead to other pages.
EXTENSIONS = (
    *(".whl", ".egg", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.z", ".tar.xz", ".txz"),
    *(".tar.lz", ".tlz", ".tar.lzma", ".exe", ".msi", ".rpm", ".deb", ".dmg"),
)
# Attributes of a link in HTML, without "data-", that have another key in JSON, and keys that have no attribute.
ATTRIBUTES = {"dist-info-metadata": "core-metadata"}
WITHOUT_ATTRIBUTE = ("filename", "url", "hashes", "size", "upload-time", "dist-info-metadata")
# Keys that a link in HTML has otherwise than as an attribute.
OF_LINK = ("filename", "url", "hashes")
# Keys that can be a part of the name of an attribute, and sizes that fit into an integer of JSON.
ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_.-]+")
SIZE = re.compile(r"[0-9]{1,15}")
STATUS = "pypi:project-status"
# The title of a simple page, which tells it from others if it has no files.
TITLE = re.compile("links for ", re.IGNORECASE)
# The strictness of each status of a project. "active" and those that this module does not know have 0.
STRICTNESS = {"deprecated": 1, "archived": 1, "quarantined": 2}

# What parsing a page takes: in JSON 1 for each value and 2 for each object or list, in HTML 8 for each element and 4 for each
# attribute. That of ddtrace takes up to 1.7 million, depending on what an index says of files. 3 million take 300 MB of memory.
COMPLEXITY_LIMIT = 3_000_000
# HTML is parsed in pieces of this many characters. A larger element, which can have any number of attributes, is an error.
PIECE = 65_536

# Python takes minutes for a page in one of these.
SLOW_CHARSETS = ("idna", "punycode")
# Bytes of a file name that file systems allow.
NAME_LIMIT = 255
# Control characters and line separators, which break a header or a line, and surrogates, which are no UTF-8 and which some
# encodings of HTML can have. None of them is printable.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# A hash in the fragment of a link in HTML, which can have other parts before and after it. One that is no digest of its
# algorithm is kept, so that the file is refused rather than stored without being verified.
FRAGMENT_HASH = re.compile(rf"(?:^|&)(?P<algorithm>{'|'.join(ALGORITHMS)})=(?P<digest>[0-9a-fA-F]{{16,}})(?=&|$)")
# What a URL can have as it is, without the slash.
PLAIN = re.compile(r"[A-Za-z0-9._~+!-]+")
# What a listing has of a file: what requests for it and for its core metadata need, and prefetching.
LISTED = ("filename", "url", "hashes", "size", "core-metadata", "dist-info-metadata", "yanked")
# Files that are serialized in one call: each call of orjson has a fixed cost, and more files take more memory.
LISTED_AT_A_TIME = 1000
# Around an entry of a listing, which begins with its path. Everything inside of it has a deeper indentation, and JSON has no
# line feed in a text.
ENTRY_START, ENTRY_END = b'\n  "', b"\n  }"

Page = dict[str, Any]
File = dict[str, Any]


class PageError(ValueError):
    """The upstream's response is no simple page. The text says why."""


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
            # It is no part of the file's location, and the URL of the metadata is this one with ".metadata" after it.
            link = file["url"] = link.partition("#")[0]
        # urljoin takes longer than all else that a page takes, and these are most links.
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
    """Raise PageError for JSON that takes too much memory to be parsed, which can be a few bytes if they are compressed."""
    # Each byte counts for 2 at most.
    if len(content) * 2 > COMPLEXITY_LIMIT:
        values, containers = (sum(map(content.count, signs)) for signs in ((b",", b":"), (b"{", b"[")))
        limit_complexity(values + 2 * containers)


def limit_complexity(complexity: int) -> None:
    if complexity > COMPLEXITY_LIMIT:
        raise PageError("the response has too many values to be parsed")


def is_safe(filename: str) -> bool:
    """Return whether a file name can be the last part of a path."""
    # Most names are printable, which takes less time to find out.
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
    if not all(isinstance(file, dict) for file in files) or not all(
        isinstance(file.get(key), str) for file in files for key in ("filename", "url")
    ):
        raise PageError("the response lists a file that has no name or no URL")
    meta = page.get("meta")
    require_version(str(meta.get("api-version", "1.0")) if isinstance(meta, dict) else "1.0")
    return dict(page)


def require_version(version: str) -> None:
    """Raise PageError for a version of the simple repository API that this module does not know."""
    if version.partition(".")[0] != "1":
        raise PageError(f"the response has version {version} of the simple repository API, and only version 1 is known")


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
    """Return what a page has in HTML. Raises PageError."""
    limit_complexity(8 * text.count("<"))
    anchors = Anchors()
    try:
        for start in range(0, len(text), PIECE):
            anchors.feed(text[start : start + PIECE])
            # The start of an element whose end has not been found.
            if len(anchors.rawdata) >= PIECE:
                raise PageError("the response has an element that is too large to be parsed")
        anchors.close()
    except PageError:
        raise
    # Of html.parser, for declarations and numbers of characters.
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
        # As that of a proxy that asks for a password. PyPI and devpi mark theirs, and most other indexes have the title.
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
        # The older of two names of core metadata can have no hash where the newer one has it.
        if not isinstance(file.get(key), dict):
            file[key] = found_value
    return file


def value_of(key: str, text: str) -> Any:
    """Return what the text of an attribute is in JSON."""
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


def hash_of(file: File) -> tuple[str, str]:
    """Return the algorithm and the digest that a file's path has, in lower-case hexadecimal digits, or empty texts."""
    hashes = file.get("hashes")
    if not isinstance(hashes, dict) or not hashes:
        return "", ""
    algorithm = "sha256" if hashes.get("sha256") else "md5" if hashes.get("md5") else next(iter(hashes))
    digest = hashes[algorithm]
    return (algorithm, digest.lower()) if is_digest(algorithm, digest) else ("", "")


def path_of(file: File) -> str:
    """Return the path of a file below its index, as devpi names it: it does not change if the upstream moves the file."""
    _algorithm, digest = hash_of(file)
    if digest:
        return f"+f/{digest[:3]}/{digest[3:16]}/{file['filename']}"
    parts = urlsplit(file["url"])
    # Clients get the path, so it has no credentials of the URL.
    host = parts.netloc.rpartition("@")[2]
    folder = "_".join([parts.scheme, host, *parts.path.strip("/").split("/")[:-1]])
    return f"+e/{unquote(re.sub('[^a-zA-Z0-9_.-]', '_', folder))}/{file['filename']}"


def listed_metadata(file: File) -> Any:
    """Return what a page lists of the core metadata of a file, which is true or has its hashes, or something false."""
    return file.get("core-metadata") or file.get("dist-info-metadata")


def link_to(path: str) -> str:
    """Return a link to a path of this mirror from the page of a project of any index."""
    return quote(f"../../../../{path}", safe="/+!~")


def merged(found: list[Page]) -> Page:
    """Return the page of an index that takes a project from several.

    Of files with the same name, the first counts, and of other fields, that of the last page. All versions are listed, and the
    strictest status is kept.
    """
    files: dict[str, File] = {}
    versions: dict[str, None] = {}
    merged_page: Page = {}
    for page in found:
        for file in page["files"]:
            files.setdefault(file["filename"], file)
        # Texts, so that a list of anything else is no error here.
        listed = page.get("versions")
        versions |= dict.fromkeys(map(str, listed if isinstance(listed, list) else ()))
        fields = dict(page)
        for key, value in merged_page.items():
            if key == "meta" and isinstance(value, dict) and isinstance(page.get(key), dict):
                fields[key] = {**value, **page[key]}
            elif key not in page or (key == "project-status" and strictness(value) > strictness(page[key])):
                fields[key] = value
        merged_page = fields
    return {**merged_page, **({"versions": list(versions)} if versions else {}), "files": list(files.values())}


def strictness(status: Any) -> int:
    """Return a number for a project's status that is higher for a stricter one."""
    return STRICTNESS.get(str(status.get("status")), 0) if isinstance(status, dict) else -1


def linked_path(link: str, index: str) -> str:
    """Return the path below ``index`` of the file that a link of ``localize`` leads to."""
    path = unquote(link.removeprefix(link_to(f"{index}/")))
    return f"+{path[1:]}" if path.startswith("-f/") else path


def localize(page: Page, index: str) -> bytes:
    """Have the links of a page lead to this mirror, and return the listing of its files before that.

    The links lead from the page of a project of any index to the files of ``index``. pip takes half as long again for a link
    that has a plus sign, so ``-f`` stands for devpi's ``+f``. The core metadata of a wheel is promised if the upstream does not
    list it. The listing has JSON objects of files by their paths, see ``Listing``. Raises PageError.
    """
    folder = link_to(f"{index}/")
    listing = bytearray()
    for start in range(0, len(page["files"]), LISTED_AT_A_TIME):
        entries: dict[str, File] = {}
        for file in page["files"][start : start + LISTED_AT_A_TIME]:
            path = path_of(file)
            # Of files with the same path, the first counts, which ``Listing.find`` finds in another batch too.
            if path not in entries:
                entries[path] = {key: file[key] for key in LISTED if key in file}
            way, name = path.rsplit("/", 1)
            name = name if PLAIN.fullmatch(name) else quote(name, safe="+!~")
            file["url"] = f"{folder}-{way[1:]}/{name}" if way.startswith("+f/") else f"{folder}{way}/{name}"
            if name.endswith(".whl") and not listed_metadata(file):
                file["core-metadata"] = True
        try:
            listing += orjson.dumps(entries, option=orjson.OPT_INDENT_2)
        except TypeError as exc:
            raise PageError(f"the response has a file that can't be listed ({exc})") from exc
    return bytes(listing)


class Listing:
    """The files of a page that ``localize`` lists. They are searched, and neither copied nor parsed.

    ``content`` has the listing from ``start`` to its end. It can be a file of any size that is mapped into memory.
    """

    def __init__(self, content: bytes | mmap, start: int = 0) -> None:
        self.content = content
        self.start = start

    def find(self, path: str) -> File | None:
        """Return the file with a path below its index."""
        key = orjson.dumps(path).removeprefix(b'"')
        start = self.content.find(ENTRY_START + key + b": ", self.start)
        return None if start < 0 else self.entry(start)[1]

    def newest_first(self) -> Iterator[tuple[str, File]]:
        """Yield the paths and the files from the last one to the first: indexes list new releases last."""
        start = len(self.content)
        while (start := self.content.rfind(ENTRY_START, self.start, start)) >= 0:
            yield self.entry(start)

    def entry(self, start: int) -> tuple[str, File]:
        """Return the path and the file of the entry that begins at ``start``."""
        end = self.content.find(ENTRY_END, start) + len(ENTRY_END)
        ((path, file),) = orjson.loads(b"{%s}" % self.content[start:end]).items()
        return path, file


def render_json(page: Page) -> bytes:
    """Return a page as JSON. Raises PageError for one that orjson reads and does not write, as it is nested too deeply."""
    try:
        return orjson.dumps(page)
    except TypeError as exc:
        raise PageError(f"the page can't be written as JSON ({exc})") from exc


def attributes_of(file: File) -> Iterator[tuple[str, str]]:
    """Yield the attributes that a file's link has in HTML."""
    for key, value in file.items():
        if key in WITHOUT_ATTRIBUTE or value is None or (value is False and key != "gpg-sig"):
            continue
        if key == "yanked":
            yield "data-yanked", value if isinstance(value, str) else ""
        elif key == "core-metadata":
            text = (
                next((f"{name}={digest}" for name, digest in value.items()), "true")
                if isinstance(value, dict)
                else "true"
            )
            yield "data-core-metadata", text
            # As pip before 23.2.1 and others call it.
            yield "data-dist-info-metadata", text
        elif isinstance(value, (bool, str)) and ATTRIBUTE_NAME.fullmatch(key):
            yield f"data-{key}", value if isinstance(value, str) else str(value).lower()


def metas_of(page: Page) -> Iterator[tuple[str, str]]:
    """Yield the names and contents of the meta elements that a page has in HTML."""
    meta = page.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    yield "pypi:repository-version", str(meta.get("api-version", "1.0"))
    status = page.get("project-status")
    if isinstance(status, dict):
        yield STATUS, str(status.get("status", ""))
        if status.get("reason"):
            yield f"{STATUS}-reason", str(status["reason"])
    for name, values in (("tracks", meta.get("tracks")), ("alternate-locations", page.get("alternate-locations"))):
        for value in values if isinstance(values, list) else ():
            yield f"pypi:{name}", str(value)


def render_html(page: Page, name: str) -> bytes:
    """Return a page as HTML, from the same data as its JSON."""
    title = escape(f"Links for {name}")
    lines = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += [f'<meta name="{escape(key)}" content="{escape(text)}">' for key, text in metas_of(page)]
    lines += [f"<title>{title}</title>", "</head>", "<body>", f"<h1>{title}</h1>"]
    for file in page["files"]:
        algorithm, digest = hash_of(file)
        url = file["url"] + (f"#{algorithm}={digest}" if digest else "")
        attributes = "".join(f' {key}="{escape(text)}"' for key, text in attributes_of(file))
        lines.append(f'<a href="{escape(url)}"{attributes}>{escape(file["filename"])}</a><br>')
    return "\n".join([*lines, "</body>", "</html>", ""]).encode()


def empty(name: str) -> Page:
    return {"meta": {"api-version": "1.0"}, "name": canonicalize_name(name), "files": []}
