# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edit configuration files, and preserve everything else in them. Text in, text out.

Private to the collection. Values are handled as the file has them, so that a restored value is restored byte for byte. The
formats are pip.conf, as pip reads it with ``configparser.RawConfigParser`` (it converts the names of keys to lower case, and
accepts ``index_url`` and ``--index-url`` for ``index-url``, pip/_internal/configuration.py), TOML
(https://toml.io/en/v1.0.0), and lines of ``export NAME=value`` for a shell. Of TOML, only the extents of keys and values are
parsed: Python has no parser before 3.11, and none that preserves comments.
"""

from __future__ import annotations

import configparser
import io
import re
from typing import Callable, Dict, Iterator, Mapping, NamedTuple, Optional

from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask, url_credentials

try:
    import tomllib
except ImportError:  # before Python 3.11
    tomllib = None  # type: ignore[assignment]

# Values by section and key. In changes, None removes a key.
Settings = Dict[str, Dict[str, str]]
Changes = Mapping[str, Mapping[str, Optional[str]]]

# A comment that contains this was written by the collection, and is removed with its settings.
MANAGED_MARKER = "devpi.mirror"

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


class ParseError(ValueError):
    """The text is not valid in its format, or can't be edited. The message has the reason."""


class Item(NamedTuple):
    """An option, or the header of a section, whose ``name`` is empty.

    Its lines are ``text[start:end]``, its value is ``text[value_start:value_end]``.
    """

    section: str
    name: str
    start: int
    end: int
    value_start: int
    value_end: int


class Format(NamedTuple):
    """A file format.

    ``check`` raises ParseError for text that programs can't read. ``option`` is the template of a new option. ``secrets``
    returns the extents of the secrets in a text, in their order.
    """

    check: Callable[[str], None]
    scan: Callable[[str], list[Item]]
    option: str
    secrets: Callable[[str], list[tuple[int, int]]] = url_credentials


def parse(text: str, file_format: Format) -> Settings:
    """Return the values in ``text`` by section and key, unchanged except for newlines. Raises ParseError."""
    file_format.check(text)
    settings: Settings = {}
    for item in file_format.scan(text):
        section = settings.setdefault(item.section, {})
        if item.name:
            section.setdefault(item.name, _normalize_newlines(text[item.value_start : item.value_end]))
    return settings


class _Edits:
    """The edits of a text: replacements, insertions and sections to append."""

    def __init__(self, text: str, file_format: Format, keep_sections: tuple[str, ...]) -> None:
        self.text = text
        self.items = file_format.scan(text)
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._option = file_format.option
        self._keep_sections = keep_sections
        self._replaced: list[tuple[int, int, str]] = []
        self._inserted: list[tuple[int, int, str]] = []
        self._appended = ""

    def change_section(self, section: str, wanted: Mapping[str, str | None]) -> None:
        inside = [item for item in self.items if item.section == section]
        removed: list[Item] = []
        added = ""
        for name, value in wanted.items():
            found = [item for item in inside if item.name == name]
            if value is not None and found:
                self._replaced.append(_replacement(self.text, found[0], value.replace("\n", self.newline)))
                found = found[1:]
            elif value is not None:
                first, *others = value.split("\n")
                added += self.newline.join([(self._option % (name, first)).rstrip(), *others]) + self.newline
            removed += found
        if added:
            self._add(section, inside, added)
        elif removed and section not in self._keep_sections and _is_emptied(self.text, self.items, inside, removed):
            self._replaced.append(_section_extent(self.text, self.items, inside[0]))
            return
        self._replaced += [(item.start, item.end, "") for item in removed]

    def _add(self, section: str, inside: list[Item], added: str) -> None:
        """Add options to the section whose items are ``inside``."""
        if inside:
            if section and inside[0].name:
                raise ParseError(f"{section} is not written as a table: write it below a line [{section}]")
            end = inside[-1].end
            self._inserted.append((end, end, added if self.text[end - 1] in "\r\n" else self.newline + added))
        elif self.items and not section:
            # Before the first header, as nothing after it is outside of a table.
            self._inserted.append((0, 0, added if self.items[0].name else added + self.newline))
        else:
            _check_new_section(section, self.items)
            self._appended += self.newline + _header(section, self.newline) + added

    def result(self) -> str:
        """Return the edited text."""
        text = self.text
        edits = self._replaced + self._inserted
        # From the end, so that positions remain valid. An insertion follows a value that ends at the same position.
        for start, end, new in sorted(edits, reverse=True, key=lambda edit: (edit[:2], edit in self._inserted)):
            text = text[:start] + new + text[end:]
        if self._appended:
            text += "" if text.endswith(("\n", "\r")) or not text else self.newline
            # A blank line separates the new section, unless there is one.
            is_separated = not text or not _last_line(text).strip()
            text += self._appended[len(self.newline) :] if is_separated else self._appended
        return text


def edit(text: str, changes: Changes, file_format: Format, keep_sections: tuple[str, ...] = ()) -> str:
    """Return ``text`` with the changes, and everything else preserved. Raises ParseError.

    Values are written as they are, without a newline at the end. A section that becomes empty is removed, unless it is one of
    ``keep_sections``.
    """
    edits = _Edits(text, file_format, keep_sections)
    for section, wanted in changes.items():
        edits.change_section(section, wanted)
    return edits.result()


def without_managed_comments(text: str) -> str:
    """Return ``text`` without the comments that this collection has written."""
    lines = [match.group() for match in _LINE.finditer(text)]
    return "".join(line for line in lines if not (_is_comment(line) and MANAGED_MARKER in line))


def _normalize_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _last_line(text: str) -> str:
    return [match.group() for match in _LINE.finditer(text)][-1]


def _replacement(text: str, item: Item, value: str) -> tuple[int, int, str]:
    """Return the edit that replaces the value of an option, and preserves the spacing of its line."""
    start = item.value_start
    if value.startswith(("\r", "\n")):
        start = len(text[:start].rstrip(" \t"))
    elif value and text[start - 1] in "=:" and not text[start : item.value_end].partition("\n")[0].strip():
        value = " " + value
    return start, item.value_end, value


def _header(section: str, end: str) -> str:
    if not section:
        return ""
    return (section if section.startswith("[") else f"[{section}]") + end


def _check_new_section(section: str, items: list[Item]) -> None:
    """Raise ParseError if a table of this name can't be added, as the name is used by a key."""
    path = section.strip("[]") + "."
    for item in items:
        name = f"{item.section}.{item.name}." if item.section else item.name + "."
        if item.name and path.startswith(name):
            raise ParseError(
                "{} is not written as a table: write it below a line {}".format(name[:-1], _header(section, ""))
            )


def _section_extent(text: str, items: list[Item], header: Item) -> tuple[int, int, str]:
    """Return the edit that removes a section, with the blank lines before it if it is the last one."""
    stop = min([item.start for item in items if not item.name and item.start > header.start] or [len(text)])
    start = header.start
    if stop == len(text):
        end = len(text[:start].rstrip())
        line_end = _LINE.match(text, end) if end else None
        start = line_end.end() if line_end else 0
    return start, stop, ""


def _is_emptied(text: str, items: list[Item], inside: list[Item], removed: list[Item]) -> bool:
    """Return whether a section has neither options nor comments left without ``removed``."""
    if inside[0].name:
        return False
    rest = text[inside[0].end : _section_extent(text, items, inside[0])[1]]
    for item in sorted(removed, reverse=True, key=lambda item: item.start):
        rest = rest[: item.start - inside[0].end] + rest[item.end - inside[0].end :]
    return not rest.strip()


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", ";"))


# pip.conf

_INI_HEADER = re.compile(r"\[(?P<name>.+)\]")
_INI_OPTION = re.compile(r"(?P<name>[^=:]*)[=:]\s*(?P<value>.*)$")


def pip_name(name: str) -> str:
    """Return the name that pip uses for a key."""
    name = name.strip().lower().replace("_", "-")
    return name[2:] if name.startswith("--") else name


def _check_ini(text: str) -> None:
    try:
        # With the newlines that pip's own parser sees.
        configparser.RawConfigParser().read_file(io.StringIO(text, newline=None), "the file")
    except configparser.Error as exc:
        raise ParseError(mask(str(exc).replace("\n", " "))) from exc


def _scan_ini(text: str) -> list[Item]:
    """Return headers and options as configparser reads them. An option ends with its last line that is not blank."""
    found: list[Item] = []
    section = ""
    indent = 0
    for match in _LINE.finditer(text):
        line = match.group().strip()
        if not line or _is_comment(line):
            continue
        begin = match.start() + match.group().index(line)
        depth = begin - match.start()
        if found and found[-1].name and depth > indent:
            found[-1] = found[-1]._replace(end=match.end(), value_end=begin + len(line))
            continue
        indent = depth
        header = _INI_HEADER.match(line)
        option = _INI_OPTION.match(line)
        if header:
            section = header.group("name")
            found.append(Item(section, "", match.start(), match.end(), match.end(), match.end()))
        elif option:
            value = begin + option.start("value")
            found.append(
                Item(section, pip_name(option.group("name")), match.start(), match.end(), value, begin + len(line))
            )
    return found


# TOML

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_REST = r"[ \t]*(?:#[^\r\n]*)?(?:\r?\n|\Z)"
_TOML_REST = re.compile(_REST)
_TOML_PART = re.compile(_PART)
_TOML_HEADER = re.compile(rf"[ \t]*(?:\[[ \t]*(?P<table>{_KEY})[ \t]*\]|\[\[[ \t]*(?P<array>{_KEY})[ \t]*\]\]){_REST}")
_TOML_OPTION = re.compile(rf"[ \t]*(?P<key>{_KEY})[ \t]*=[ \t]*")
_TOML_TOKEN = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*"""+|\'\'\'(?:[^']|'(?!\'\'))*\'\'\'+|"(?:[^"\\\r\n]|\\.)*"|'[^'\r\n]*\''''
    r"""|(?P<open>[\[{])|(?P<close>[\]}])|(?P<inner>#[^\r\n]*|\r?\n)|(?P<space>[ \t]+)|[^\s"'#\[\]{}]+""",
    re.DOTALL,
)


def _check_toml(text: str) -> None:
    try:
        text.encode("utf-8")
        if tomllib:
            tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParseError(mask(str(exc).replace("\n", " "))) from exc


def _scan_toml(text: str) -> list[Item]:
    """Return headers and options. The section of a table in an array ``[[x]]`` is ``[[x]]`` if it has ``default = true``.

    That is uv's default index. The sections of other tables in arrays get unique names.
    """
    found: list[Item] = []
    section = ""
    position = 0
    while position < len(text):
        rest = _TOML_REST.match(text, position)
        header = _TOML_HEADER.match(text, position)
        option = _TOML_OPTION.match(text, position)
        if rest:
            position = rest.end()
        elif header:
            table, array = header.group("table"), header.group("array")
            section = ".".join(_parts(table or array))
            section = section if table else f"[[{section}]] {len(found)}"
            found.append(Item(section, "", position, header.end(), header.end(), header.end()))
            position = header.end()
        elif option:
            *tables, name = _parts(option.group("key"))
            stop = _value_end(text, option.end())
            after = _TOML_REST.match(text, stop)
            if not after or stop == option.end():
                raise ParseError(f"could not parse line {_line_number(text, position)}")
            inside = ".".join(([section] if section else []) + tables)
            found.append(Item(inside, name, position, after.end(), option.end(), stop))
            position = after.end()
        else:
            raise ParseError(f"could not parse line {_line_number(text, position)}")
    for item in found:
        value = text[item.value_start : item.value_end]
        if item.section.startswith("[[") and item.name == "default" and value == "true":
            default = item.section.split(" ")[0]
            return [other._replace(section=default) if other.section == item.section else other for other in found]
    return found


def _line_number(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _parts(key: str) -> list[str]:
    return [part.strip("\"'") for part in _TOML_PART.findall(key)]


def _value_end(text: str, start: int) -> int:
    """Return the end of the value that begins at ``start``: before a comment or a newline that is not in brackets."""
    depth = 0
    end = start
    for token in _tokens(text, start):
        # A value in quotes or brackets is complete when these are closed.
        is_complete = depth == 0 and end > start and text[start] in "\"'[{"
        if (token.group("inner") and depth == 0) or (is_complete and not token.group("space")):
            break
        depth += bool(token.group("open")) - bool(token.group("close"))
        if not token.group("space"):
            end = token.end()
    if depth:
        raise ParseError(f"a bracket in line {_line_number(text, start)} is not closed")
    return end


def _tokens(text: str, start: int) -> Iterator[re.Match[str]]:
    token = _TOML_TOKEN.match(text, start)
    while token:
        yield token
        token = _TOML_TOKEN.match(text, token.end())


# Lines for a shell

_SHELL_OPTION = re.compile(r"export (?P<name>\w+)=(?P<value>.*)$")


def _check_shell(_text: str) -> None:
    """Accept any text, as other lines are preserved."""


def _scan_shell(text: str) -> list[Item]:
    found = []
    for match in _LINE.finditer(text):
        option = _SHELL_OPTION.match(match.group().rstrip("\r\n"))
        if option:
            begin, end = match.start() + option.start("value"), match.start() + option.end("value")
            found.append(Item("", option.group("name"), match.start(), match.end(), begin, end))
    return found


INI = Format(_check_ini, _scan_ini, "%s = %s")
TOML = Format(_check_toml, _scan_toml, "%s = %s")
SHELL = Format(_check_shell, _scan_shell, "export %s=%s")
