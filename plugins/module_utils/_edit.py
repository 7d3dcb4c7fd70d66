# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Editing a file of settings without touching what is not ours. Pure text in, text out.

Private to the collection. Values are handled as they are written in the file, so that a value which is put back is put back
to the byte. There are three formats: pip.conf, as pip reads it with ``configparser.RawConfigParser`` (it lower-cases the names
of keys and takes ``index_url`` and ``--index-url`` for ``index-url``, pip/_internal/configuration.py); TOML
(https://toml.io/en/v1.0.0), of which no more is understood than where a key begins and its value ends, as no Python before
3.11 brings a parser, and none one that keeps comments; and lines of ``export NAME=value`` for a shell.
"""

from __future__ import annotations

import configparser
import io
import re
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

try:
    import tomllib
except ImportError:  # before Python 3.11
    tomllib = None  # type: ignore[assignment]

# Values by section and key. None is for a key that is to go.
Settings = Dict[str, Dict[str, str]]
Changes = Mapping[str, Mapping[str, Optional[str]]]

# A comment that says so is ours, and goes when our settings go.
MARK = "devpi.mirror"

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
# Up to the last @ before the path: a password can have one that is not encoded.
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]+(?=@)")


class NotParsed(ValueError):
    """The text is no file that its program could read, or none that can be edited. The message says why."""


class Item(NamedTuple):
    """A header, whose ``name`` is empty, or an option.

    Its lines are from ``start`` to before ``end`` of the text, its value from ``value_start`` to before ``value_end``.
    """

    section: str
    name: str
    start: int
    end: int
    value_start: int
    value_end: int


class Format(NamedTuple):
    """How a kind of file is read and written. ``check`` raises NotParsed for what its program could not read."""

    check: Callable[[str], None]
    scan: Callable[[str], List[Item]]
    option: str


def parse(text: str, form: Format) -> Settings:
    """Return the values in ``text`` by section and key, each as it is written, with line feeds alone. Raises NotParsed."""
    form.check(text)
    settings: Settings = {}
    for item in form.scan(text):
        section = settings.setdefault(item.section, {})
        if item.name:
            section.setdefault(item.name, _unix(text[item.value_start : item.value_end]))
    return settings


def edit(text: str, changes: Changes, form: Format, keep: Tuple[str, ...] = ()) -> str:
    """Return ``text`` with ``changes`` in force and all else as it was. Raises NotParsed.

    Values are as they are to be written, without their line's end. A section that has nothing left goes, if not in ``keep``.
    """
    items = form.scan(text)
    end = "\r\n" if "\r\n" in text else "\n"
    edits: List[Tuple[int, int, str]] = []
    inserted: List[Tuple[int, int, str]] = []
    appended = ""
    for section, wanted in changes.items():
        inside = [item for item in items if item.section == section]
        removed: List[Item] = []
        added = ""
        for name, value in wanted.items():
            found = [item for item in inside if item.name == name]
            if value is not None and found:
                edits.append(_replacement(text, found[0], value.replace("\n", end)))
                found = found[1:]
            elif value is not None:
                first, *others = value.split("\n")
                added += end.join([(form.option % (name, first)).rstrip(), *others]) + end
            removed += found
        if added and inside:
            if section and inside[0].name:
                raise NotParsed("%s is not written as a table: write it below a line [%s]" % (section, section))
            place = inside[-1].end
            inserted.append((place, place, added if text[place - 1] in "\r\n" else end + added))
        elif added and items and not section:
            # Before the first header, as nothing comes out of a table again.
            inserted.append((0, 0, added + end))
        elif added:
            _check_place(section, items)
            appended += end + _header(section, end) + added
        elif removed and section not in keep and _is_emptied(text, items, inside, removed):
            edits.append(_extent(text, items, inside[0]))
            continue
        edits += [(item.start, item.end, "") for item in removed]
    # From the end on, so that places stay as they are. What is inserted comes after a value that ends there.
    for start, stop, new in sorted(edits + inserted, reverse=True, key=lambda one: (one[:2], one in inserted)):
        text = text[:start] + new + text[stop:]
    if appended:
        text += "" if text.endswith(("\n", "\r")) or not text else end
        # A blank line between what was there and what comes, if there is none yet.
        text += appended[len(end) :] if not text or not _last_line(text).strip() else appended
    return text


def without_marks(text: str) -> str:
    """Return ``text`` without the comments that this collection has written."""
    lines = [match.group() for match in _LINE.finditer(text)]
    return "".join(line for line in lines if not (_is_comment(line) and MARK in line))


def mask(text: str) -> str:
    """Return ``text`` with the credentials in its URLs replaced by ``***``."""
    return _CREDENTIALS.sub("***", text)


def credentials(text: str) -> List[str]:
    """Return the user names and passwords that URLs in ``text`` carry, as ``user:password``."""
    return _CREDENTIALS.findall(text)


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _last_line(text: str) -> str:
    return [match.group() for match in _LINE.finditer(text)][-1]


def _replacement(text: str, item: Item, value: str) -> Tuple[int, int, str]:
    """Return the edit that gives an option another value, in the way that its line is written."""
    start = item.value_start
    if value.startswith(("\r", "\n")):
        start = len(text[:start].rstrip(" \t"))
    elif value and text[start - 1] in "=:" and not text[start : item.value_end].partition("\n")[0].strip():
        value = " " + value
    return start, item.value_end, value


def _header(section: str, end: str) -> str:
    if not section:
        return ""
    return (section if section.startswith("[") else "[%s]" % section) + end


def _check_place(section: str, items: List[Item]) -> None:
    """Raise NotParsed if a table of this name can't be added, as its name stands for something else."""
    path = section.strip("[]") + "."
    for item in items:
        name = "%s.%s." % (item.section, item.name) if item.section else item.name + "."
        if item.name and path.startswith(name):
            raise NotParsed(
                "%s is not written as a table: write it below a line %s" % (name[:-1], _header(section, ""))
            )


def _extent(text: str, items: List[Item], header: Item) -> Tuple[int, int, str]:
    """Return the edit that removes a whole section, and the blank lines before it if it is the last."""
    stop = min([item.start for item in items if not item.name and item.start > header.start] or [len(text)])
    start = header.start
    if stop == len(text):
        kept = len(text[:start].rstrip())
        line_end = _LINE.match(text, kept) if kept else None
        start = line_end.end() if line_end else 0
    return start, stop, ""


def _is_emptied(text: str, items: List[Item], inside: List[Item], removed: List[Item]) -> bool:
    """Tell whether a section says nothing more, not even in a comment, once ``removed`` has gone."""
    if inside[0].name:
        return False
    rest = text[inside[0].end : _extent(text, items, inside[0])[1]]
    for item in sorted(removed, reverse=True, key=lambda item: item.start):
        rest = rest[: item.start - inside[0].end] + rest[item.end - inside[0].end :]
    return not rest.strip()


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", ";"))


# pip.conf

_INI_HEADER = re.compile(r"\[(?P<name>.+)\]")
_INI_OPTION = re.compile(r"(?P<name>[^=:]*)[=:]\s*(?P<value>.*)$")


def pip_name(name: str) -> str:
    """Return the name that pip knows a key by."""
    name = name.strip().lower().replace("_", "-")
    return name[2:] if name.startswith("--") else name


def _check_ini(text: str) -> None:
    try:
        # With line ends as pip's own reading of the file has them.
        configparser.RawConfigParser().read_file(io.StringIO(text, newline=None), "the file")
    except configparser.Error as exc:
        raise NotParsed(mask(str(exc).replace("\n", " "))) from exc


def _scan_ini(text: str) -> List[Item]:
    """Return headers and options the way configparser reads them. An option goes up to the last line of it that has text."""
    found: List[Item] = []
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
_KEY = r"%s(?:[ \t]*\.[ \t]*%s)*" % (_PART, _PART)
_REST = r"[ \t]*(?:#[^\r\n]*)?(?:\r?\n|\Z)"
_TOML_REST = re.compile(_REST)
_TOML_PART = re.compile(_PART)
_TOML_HEADER = re.compile(
    r"[ \t]*(?:\[[ \t]*(?P<table>%s)[ \t]*\]|\[\[[ \t]*(?P<array>%s)[ \t]*\]\])%s" % (_KEY, _KEY, _REST)
)
_TOML_OPTION = re.compile(r"[ \t]*(?P<key>%s)[ \t]*=[ \t]*" % _KEY)
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
        raise NotParsed(mask(str(exc).replace("\n", " "))) from exc


def _scan_toml(text: str) -> List[Item]:
    """Return headers and options. What follows a header ``[[x]]`` is the section ``[[x]]`` if it has ``default = true``.

    That is the one of uv's indexes that it falls back to. Others get names that nobody asks for.
    """
    found: List[Item] = []
    section = ""
    place = 0
    while place < len(text):
        rest = _TOML_REST.match(text, place)
        header = _TOML_HEADER.match(text, place)
        option = _TOML_OPTION.match(text, place)
        if rest:
            place = rest.end()
        elif header:
            table, array = header.group("table"), header.group("array")
            section = ".".join(_parts(table or array))
            section = section if table else "[[%s]] %d" % (section, len(found))
            found.append(Item(section, "", place, header.end(), header.end(), header.end()))
            place = header.end()
        elif option:
            *tables, name = _parts(option.group("key"))
            stop = _value_end(text, option.end())
            after = _TOML_REST.match(text, stop)
            if not after or stop == option.end():
                raise NotParsed("its line %d is not understood" % (text.count("\n", 0, place) + 1))
            inside = ".".join(([section] if section else []) + tables)
            found.append(Item(inside, name, place, after.end(), option.end(), stop))
            place = after.end()
        else:
            raise NotParsed("its line %d is not understood" % (text.count("\n", 0, place) + 1))
    for item in found:
        value = text[item.value_start : item.value_end]
        if item.section.startswith("[[") and item.name == "default" and value == "true":
            ours = item.section.split(" ")[0]
            return [one._replace(section=ours) if one.section == item.section else one for one in found]
    return found


def _parts(key: str) -> List[str]:
    return [part.strip("\"'") for part in _TOML_PART.findall(key)]


def _value_end(text: str, start: int) -> int:
    """Return where the value that begins at ``start`` ends: before a comment or a line's end that is in no bracket."""
    depth = 0
    end = start
    for token in _tokens(text, start):
        # One in quotes or brackets is over when these are closed.
        is_over = depth == 0 and end > start and text[start] in "\"'[{"
        if (token.group("inner") and depth == 0) or (is_over and not token.group("space")):
            break
        depth += bool(token.group("open")) - bool(token.group("close"))
        if not token.group("space"):
            end = token.end()
    if depth:
        raise NotParsed("a bracket in its line %d is not closed" % (text.count("\n", 0, start) + 1))
    return end


def _tokens(text: str, start: int) -> Iterator[re.Match[str]]:
    token = _TOML_TOKEN.match(text, start)
    while token:
        yield token
        token = _TOML_TOKEN.match(text, token.end())


# Lines for a shell

_SHELL_OPTION = re.compile(r"export (?P<name>\w+)=(?P<value>.*)$")


def _scan_shell(text: str) -> List[Item]:
    found = []
    for match in _LINE.finditer(text):
        option = _SHELL_OPTION.match(match.group().rstrip("\r\n"))
        if option:
            begin, end = match.start() + option.start("value"), match.start() + option.end("value")
            found.append(Item("", option.group("name"), match.start(), match.end(), begin, end))
    return found


INI = Format(_check_ini, _scan_ini, "%s = %s")
TOML = Format(_check_toml, _scan_toml, "%s = %s")
SHELL = Format(lambda text: None, _scan_shell, "export %s=%s")
