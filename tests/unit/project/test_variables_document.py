# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/variables.md is generated from the roles, and up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def variables(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    monkeypatch.delitem(sys.modules, "variables", raising=False)
    import variables

    return variables


def test_the_page_is_up_to_date(variables):
    assert variables.page() == variables.PAGE.read_text(), "docs/variables.md is outdated: run make docs"


def test_all_roles_are_listed(variables):
    # The role managed_host is internal.
    assert sorted([*variables.ROLES, "managed_host"]) == sorted(path.name for path in (ROOT / "roles").iterdir())


def test_topics_are_the_comments_of_the_defaults(variables, tmp_path):
    defaults = tmp_path / "main.yml"
    defaults.write_text("---\n# One\na: 1\nb: >-\n  {{ c: d }}\n\n# Two\nc: [\n]\n")
    assert variables.topics(defaults, []) == {"One": ["a", "b"], "Two": ["c"]}
    assert variables.topics(tmp_path / "missing.yml", ["a"]) == {"": ["a"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("V(a) or C(b|c), O(d)", r"`a` or `b\|c`, `d`"),
        ("O(a=b), M(x.y.z), P(x.y.z#role)", "`a: b`, `x.y.z`, `x.y.z`"),
        ("the CPU(s) and I/O (disk)", "the CPU(s) and I/O (disk)"),
    ],
)
def test_markup_is_converted(variables, text, expected):
    assert variables.markdown(text) == expected


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ({"type": "int", "description": "A number."}, 3, "| `x` | int | `3` | A number. |\n"),
        (
            {"type": "list", "elements": "str", "description": ["Names.", "The default is V(a) on Debian."]},
            "{{ names }}",
            "| `x` | list of str | `a` on Debian | Names. |\n",
        ),
        (
            {"type": "str", "choices": ["a", "b"], "description": "A letter."},
            "a",
            "| `x` | str | `a` | A letter. Allowed values: `a`, `b`. |\n",
        ),
        ({"type": "str", "choices": ["a"], "description": "V(a) is one."}, "a", "| `x` | str | `a` | `a` is one. |\n"),
    ],
)
def test_rows(variables, option, value, expected):
    assert variables.row("x", option, value) == expected


def test_a_computed_default_is_described(variables):
    with pytest.raises(ValueError, match="The default of x is computed"):
        variables.row("x", {"type": "str", "description": "Text."}, "{{ y }}")
