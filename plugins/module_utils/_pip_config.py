# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Editing a pip.conf without touching what is not ours. Pure text in, text out.

Private to the collection. pip reads these files with ``configparser.RawConfigParser``, lower-cases the names of keys and takes
``index_url`` and ``--index-url`` for ``index-url`` (pip/_internal/configuration.py); so does this.
"""

from __future__ import annotations

import configparser
import re
from typing import Dict, List, NamedTuple, Optional

Settings = Dict[str, Dict[str, str]]

_HEADER = re.compile(r"\[(?P<name>.+)\]")
_OPTION = re.compile(r"(?P<name>.*?)\s*[=:]\s*(?P<value>.*)$")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")

# A comment that says so is ours, and goes when our settings go.
MARK = "devpi.mirror"


class NotParsed(ValueError):
    """The text is no file that pip could read. The message says in which line."""


class _Option(NamedTuple):
    """Lines ``start`` to before ``end`` of the text hold the option ``name`` of ``section``."""

    section: str
    name: str
    start: int
    end: int


def normal(name: str) -> str:
    """Return the name that pip knows a key by."""
    name = name.strip().lower().replace("_", "-")
    return name[2:] if name.startswith("--") else name


def parse(text: str) -> Settings:
    """Return what pip reads in ``text``: values by section and key. Raises NotParsed."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as exc:
        raise NotParsed(str(exc).replace("'<string>'", "the file").replace("\n", " ")) from exc
    settings: Settings = {section: {} for section in parser.sections()}
    for section in parser.sections():
        for name in parser._sections[section]:  # type: ignore[attr-defined]  # without those of [DEFAULT]
            settings[section][normal(name)] = parser.get(section, name)
    return settings


def merge(text: str, settings: Settings) -> str:
    """Return ``text`` with ``settings`` in force, all else as it was. A second merge changes nothing."""
    lines = text.splitlines(keepends=True)
    end = "\r\n" if "\r\n" in text else "\n"
    current = parse(text)
    for section, wanted in settings.items():
        for name, value in wanted.items():
            if current.get(section, {}).get(name) != value or len(_find(lines, section, name)) != 1:
                _set(lines, section, name, value, end)
    return "".join(lines)


def remove(text: str, settings: Settings) -> str:
    """Return ``text`` without the keys of ``settings``, and without sections that then say nothing more."""
    lines = text.splitlines(keepends=True)
    for section, wanted in settings.items():
        for name in wanted:
            for option in reversed(_find(lines, section, name)):
                del lines[option.start : option.end]
        _drop_if_empty(lines, section)
    return "".join(lines)


def without_marks(text: str) -> str:
    """Return ``text`` without the comments that this collection has written."""
    return "".join(line for line in text.splitlines(keepends=True) if not (_is_comment(line) and MARK in line))


def mask(text: str) -> str:
    """Return ``text`` with the credentials in its URLs replaced by ``***``."""
    return _CREDENTIALS.sub("***", text)


def credentials(text: str) -> List[str]:
    """Return the user names and passwords that URLs in ``text`` carry, as ``user:password``."""
    return _CREDENTIALS.findall(text)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", ";"))


def _headers(lines: List[str]) -> Dict[str, int]:
    """Return the line of each section's header."""
    found: Dict[str, int] = {}
    for option in _scan(lines):
        if option.name == "":
            found[option.section] = option.start
    return found


def _find(lines: List[str], section: str, name: str) -> List[_Option]:
    return [o for o in _scan(lines) if o.section == section and o.name == name]


def _scan(lines: List[str]) -> List[_Option]:
    """Return every header (with an empty name) and every option, in order, the way configparser reads them.

    The lines that continue an option are part of it, up to the last that has text.
    """
    found: List[_Option] = []
    section = ""
    indent = 0
    for number, line in enumerate(lines):
        text = line.strip()
        if not text or _is_comment(line):
            continue
        depth = len(line) - len(line.lstrip())
        if found and found[-1].name and depth > indent:
            found[-1] = found[-1]._replace(end=number + 1)
            continue
        indent = depth
        header = _HEADER.match(text)
        option = _OPTION.match(text)
        if header:
            section = header.group("name")
            found.append(_Option(section, "", number, number + 1))
        elif option:
            found.append(_Option(section, normal(option.group("name")), number, number + 1))
    return found


def _set(lines: List[str], section: str, name: str, value: str, end: str) -> None:
    new = _render(name, value, end)
    old = _find(lines, section, name)
    for option in reversed(old[1:]):
        del lines[option.start : option.end]
    if old:
        lines[old[0].start : old[0].end] = new
        return
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    if section not in _headers(lines):
        if lines and lines[-1].strip():
            lines.append(end)
        lines.append("[%s]%s" % (section, end))
    last = [o for o in _scan(lines) if o.section == section][-1]
    lines[last.end : last.end] = new


def _render(name: str, value: str, end: str) -> List[str]:
    first, *others = value.split("\n")
    return [("%s = %s" % (name, first)).rstrip() + end] + ["    " + other + end for other in others if other.strip()]


def _drop_if_empty(lines: List[str], section: str) -> None:
    start: Optional[int] = _headers(lines).get(section)
    if start is None or any(o.section == section and o.name for o in _scan(lines)):
        return
    stop = start + 1
    while stop < len(lines) and not lines[stop].strip():
        stop += 1
    # A comment below the header is the user's: the section stays as its place.
    if stop == len(lines) or _HEADER.match(lines[stop].strip()):
        del lines[start:stop]
        while start == len(lines) and lines and not lines[-1].strip():
            del lines[-1]
            start -= 1
