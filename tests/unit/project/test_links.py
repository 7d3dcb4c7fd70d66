# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links between the pages of the documentation, and the paths that CONTRIBUTING.md names, exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")])
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[`~]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
# [text](target) and ![text](target), also over the end of a line, and [text]: target.
INLINE = re.compile(r"\]\(\s*<?([^\s)>]+)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)


def prose(text: str) -> str:
    """Return a page without its blocks of code, in which a comment looks like a heading."""
    return FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Return the targets of a page's links to other pages of the project."""
    text = CODE.sub("", prose(text))
    targets = INLINE.findall(text) + DEFINITION.findall(text)
    return [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    used: Counter[str] = Counter()
    for heading in HEADING.findall(prose(text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{name}-{used[name]}" if used[name] else name)
        used[name] += 1
    return found


def broken_links(page: Path, root: Path) -> list[str]:
    """Return the broken links of a page, with the reason."""
    broken = []
    for link in links(page.read_text()):
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(root) or not target.exists():
            broken.append(f"{link}: no such path")
        elif anchor and anchor not in anchors(target.read_text()):
            broken.append(f"{link}: no such heading")
    return broken


def named_paths(text: str) -> list[str]:
    """Return the paths of the project that a page names in backticks.

    Absolute paths are those of a host. Without a slash, a name is that of a variable or of a command.
    """
    return [name for name in re.findall(r"`([\w.*-]+/[\w.*/-]*)`", prose(text)) if not is_generated(name)]


def is_generated(path: str) -> bool:
    """Return whether git ignores a path, since the tests create it."""
    ignored = (ROOT / ".gitignore").read_text().split()
    return any(f"/{path}/".startswith(pattern) for pattern in ignored if pattern.startswith("/"))


def exists(path: str) -> bool:
    """Return whether a path of the project exists. NAME stands for any name, as in molecule/NAME."""
    return any(ROOT.glob(path.replace("NAME", "*").rstrip("/")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_are_valid(page):
    assert broken_links(page, ROOT) == []


def test_paths_that_contributing_names_exist():
    paths = named_paths(CONTRIBUTING.read_text())
    assert len(paths) > 20
    assert [path for path in paths if not exists(path)] == []


def test_broken_links_are_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(
        "# One\n## `two` words & [a link](page.md)\n## One\n```sh\n# three\n```\n"
    )
    readme = tmp_path / "README.md"
    readme.write_text(
        "[a](docs/page.md#one), ![b](docs/page.md#two-words--a-link), [c](#top), [over\ntwo lines](docs/page.md#one-1),\n"
        "[d](docs/missing.md), [e](docs/page.md#three), [f](docs/page.md#one-2), [g](../outside.md),\n"
        "`[code](nowhere.md)`, [h](https://example.com/#x), [i][j]\n\n# Top\n```md\n[k](nowhere.md)\n```\n[j]: nowhere.md\n"
    )
    assert broken_links(readme, tmp_path) == [
        "docs/missing.md: no such path",
        "docs/page.md#three: no such heading",
        "docs/page.md#one-2: no such heading",
        "../outside.md: no such path",
        "nowhere.md: no such path",
    ]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("docs/", True),
        ("roles/*/README.md", True),
        ("molecule/NAME/molecule.yml", True),
        ("roles/devpi_server/tasks/main_NAME.yml", False),
        ("docs/missing.md", False),
    ],
)
def test_paths_with_placeholders(path, found):
    assert exists(path) is found
