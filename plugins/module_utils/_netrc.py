# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit ~/.netrc, from which pip and uv read the credentials of an index. Text in, text out.

Private to the collection. The text is read as by the module netrc of Python 3.11 and later, of which the parser of uv (the
crate rust-netrc) is a translation. For Python before 3.11, quotes and backslashes are ordinary characters.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from ansible_collections.devpi.mirror.plugins.module_utils._edit import Format, Item, ParseError, parse

_BLANKS = re.compile(r"[ \t\r\n]*")
_BLANK = re.compile(r"\r\n|[ \t\r\n]")
_NEWLINE = re.compile(r"[\r\n]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?:[^"\\ \t\r\n]|\\.)(?:[^\\ \t\r\n]|\\.)*', re.DOTALL)
_LINE_REST = re.compile(r"[ \t]*(?:(?<=[ \t])#[^\r\n]*)?(?:\r\n|\n|\r|\Z)")
_COMMENT = re.compile(r"(?P<text>[^\r\n]*)(?:\r\n|\n|\r|\Z)")
_MACRO_END = re.compile(r"(?:\r\n|\n|\r(?!\n)){2}")
# An entry in a comment or a macro.
_SECRET = re.compile(r"(?:password|account)[ \t]+(\S+)")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
# What all versions of Python, and uv, read as it is written.
_PASSWORD = re.compile(r'(?!")[!-\[\]-~]+')
# HTTP Basic authentication does not allow colons.
_USERNAME = re.compile(r'(?!")[!-9;-\[\]-~]+')


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return the end of a match at a position, the position if there is none."""
    match = pattern.match(text, position)
    return match.end() if match else position


class _Token(NamedTuple):
    """A token. ``is_on_new_line`` is whether a newline follows it, or was skipped before it."""

    word: str
    start: int
    end: int
    is_on_new_line: bool


class _Scan:
    """The entries and macros of a text as items, and the extents of its secrets. Raises ParseError.

    The name of an item is its host, followed by a number if an earlier entry has the same host. The section of the entry
    ``default``, which must be the last one, is not that of the others, so that no entry is added after it.
    """

    def __init__(self, text: str) -> None:
        self.items: list[Item] = []
        self.secrets: list[tuple[int, int]] = []
        self._text = text
        self._position = 0
        self._section = ""
        self._is_in_entry = False
        self._counts: dict[str, int] = {}
        token = self._next()
        while token:
            self._handle(token)
            token = self._next()

    def _next(self) -> _Token | None:
        start = _end(_BLANKS, self._text, self._position)
        if start == len(self._text):
            return None
        match = _TOKEN.match(self._text, start)
        if not match:
            raise self._error(start)
        word, end = match.group(), match.end()
        is_quoted = word.startswith('"')
        first, self._position = self._position, end if is_quoted else _end(_BLANK, self._text, end)
        is_on_new_line = bool(_NEWLINE.search(self._text, first, self._position))
        word = re.sub(r"\\(.)", r"\1", word[1:-1] if is_quoted else word, flags=re.DOTALL)
        return _Token(word, start, end, is_on_new_line)

    def _error(self, position: int) -> ParseError:
        # Without its text, which can be a password.
        return ParseError("could not parse line {}".format(self._text.count("\n", 0, position) + 1))

    def _handle(self, token: _Token) -> None:
        if self._text[token.start] == "#":
            self._skip_comment(token)
        elif token.word in ("machine", "default"):
            self._add_entry(token)
        elif token.word == "macdef":
            self._add_macro(token)
        elif self._is_in_entry and token.word in ("login", "user", "password", "account"):
            value = self._next()
            if not value:
                raise self._error(token.start)
            if token.word in ("password", "account"):
                self.secrets.append((value.start, value.end))
            end = _end(_LINE_REST, self._text, value.end)
            self.items[-1] = self.items[-1]._replace(value_end=value.end, end=end)
        else:
            raise self._error(token.start)

    def _skip_comment(self, token: _Token) -> None:
        # See https://github.com/python/cpython/issues/104306: the rest of some comments is read as an entry.
        comment = _COMMENT.match(self._text, token.start)
        line = comment.group("text") if comment else ""
        needs_space = not self._is_in_entry and token.word != "#"
        if not needs_space and not token.is_on_new_line:
            self._position = _end(_COMMENT, self._text, token.start)
        elif line[token.end - token.start :].strip():
            remedy = "write a space after #" if needs_space else "remove the blank line before it"
            raise ParseError(f"{self._error(token.start)}: pip and uv can't read this comment: {remedy}")
        self._add_secrets(token.start, token.start + len(line))

    def _add_entry(self, token: _Token) -> None:
        host = self._next() if token.word == "machine" else token
        if not host or not host.word:
            raise self._error(token.start)
        self._section = "" if token.word == "machine" else "default"
        self._is_in_entry = True
        self._add(token, host.word, host.end, _end(_LINE_REST, self._text, host.end))

    def _add_macro(self, token: _Token) -> None:
        name = self._next()
        end = _MACRO_END.search(self._text, name.end) if name else None
        if not name or not end:
            raise ParseError(f"{self._error(token.start)}: a blank line must follow the macro")
        self._is_in_entry = False
        self._add(token, f"macdef {name.word}", name.end, end.end())
        self._add_secrets(name.end, end.end())
        self._position = end.end()

    def _add(self, token: _Token, name: str, value: int, end: int) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        unique = name if self._counts[name] == 1 else f"{name} {self._counts[name]}"
        before = self._text[: token.start].rstrip(" \t")
        start = len(before) if not before or before[-1] in "\r\n" else token.start
        self.items.append(Item(self._section, unique, start, end, value, value))

    def _add_secrets(self, start: int, end: int) -> None:
        self.secrets += [match.span(1) for match in _SECRET.finditer(self._text, start, end)]


def _check(text: str) -> None:
    _Scan(text)


def _items(text: str) -> list[Item]:
    return _Scan(text).items


def _secrets(text: str) -> list[tuple[int, int]]:
    """Return the extents of all passwords, that of the whole text if it can't be parsed."""
    try:
        return _Scan(text).secrets
    except ParseError:
        return [(0, len(text))]


# A value is the rest of an entry after its host.
NETRC = Format(_check, _items, "machine %s%s", _secrets)


def entry(index_url: str, username: str, password: str) -> str:
    """Return the entry for the host of an index. Raises ValueError, with the name of the option, for invalid values."""
    try:
        parts = urlsplit(index_url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not _HOST.fullmatch(host):
        raise ValueError("index_url: its host is not a name or an IPv4 address, as ~/.netrc requires")
    if "@" in parts.netloc:
        raise ValueError("index_url: contains credentials, which pip and uv use in place of username and password")
    for name, value, pattern in (("username", username, _USERNAME), ("password", password, _PASSWORD)):
        if not pattern.fullmatch(value):
            colon = ", no colon" if name == "username" else ""
            raise ValueError(
                f"{name}: pip and uv can't read it from ~/.netrc: use ASCII characters, no space, no backslash{colon}, and no "
                'quote (") at the beginning'
            )
    return f"machine {host} login {username} password {password}\n"


def check_entry(original: str, content: str) -> None:
    """Raise ParseError if a text has several entries for the host of ``content``. pip would use the last one."""
    known = parse(original, NETRC).get("", {})
    for host in parse(content, NETRC)[""]:
        if f"{host} 2" in known:
            raise ParseError(f"it has several entries for {host}: remove all but one")
