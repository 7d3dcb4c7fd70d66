# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import configparser
import io

import pytest
import tomli
from ansible_collections.devpi.mirror.plugins.module_utils import _edit
from ansible_collections.devpi.mirror.plugins.module_utils._edit import INI, SHELL, TOML, edit, parse
from hypothesis import assume, given
from hypothesis import strategies as st

URL = "http://localhost:3141/root/pypi/+simple/"
SETTINGS_INI = {"global": {"index-url": URL}}
NEWLINES = st.sampled_from(["\n", "\r\n"])


def removal(settings):
    """Return the changes that remove these settings."""
    return {section: dict.fromkeys(keys) for section, keys in settings.items()}


def files(sections, file_format):
    """Return a strategy for valid texts of these sections, each a list of lines."""

    def parses(text):
        try:
            parse(text, file_format)
        except _edit.ParseError:
            return False
        return True

    return st.builds(
        lambda parts, end, last: end.join(line for part in parts for line in part) + (end if last else ""),
        st.lists(sections, max_size=4),
        NEWLINES,
        st.booleans(),
    ).filter(parses)


def comments_of(text):
    return [line for line in text.splitlines() if line.lstrip().startswith(("#", ";"))]


# pip.conf

names = st.sampled_from(["index-url", "INDEX_URL", "timeout", "Trusted-Host", "extra-index-url", "no-index", "cert"])
values = st.lists(st.text("abc:/.=;#% \x85\u2028", min_size=1, max_size=8).map(str.strip), max_size=3).map(
    lambda lines: "\n    ".join([line for line in lines if line and line[0] not in "#;[="] or [""])
)
comments = st.sampled_from(["# a comment", "; another", "", "   ", "    # indented"])
options = st.builds("{0}{1}{2}".format, names, st.sampled_from([" = ", "=", ": ", ":"]), values)
ini_files = files(
    st.builds(
        lambda name, lines: [f"[{name}]", *lines],
        st.sampled_from(["global", "install", "download", "freeze"]),
        st.lists(st.one_of(options, comments), max_size=6),
    ),
    INI,
)
ini_settings = st.dictionaries(
    st.sampled_from(["global", "install"]),
    st.dictionaries(
        st.sampled_from(["index-url", "timeout", "trusted-host"]),
        st.sampled_from(["x", "\n    y\n    z", "10", ""]),
        min_size=1,
    ),
    min_size=1,
)


def as_pip(text):
    """Return what pip reads: values by section and key, split at whitespace."""
    parser = configparser.RawConfigParser()
    parser.read_file(io.StringIO(text, newline=None))
    found = {}
    for section in parser.sections():
        for name in parser._sections[section]:
            found[section, _edit.pip_name(name)] = parser.get(section, name).split()
    return found


def flat(settings):
    return {(section, name): value.split() for section, keys in settings.items() for name, value in keys.items()}


@given(ini_files, ini_settings)
def test_pip_reads_the_other_keys_and_the_settings(text, settings):
    expected = dict(as_pip(text))
    expected.update(flat(settings))
    assert as_pip(edit(text, settings, INI)) == expected


@given(ini_files)
def test_parse_agrees_with_pip(text):
    # For configparser, two spellings of a key are two keys. Only the first is parsed, and setting it removes the second.
    found = as_pip(text)
    for key, value in flat(parse(text, INI)).items():
        assert key in found
        if text.lower().replace("_", "-").count(key[1]) == 1 and "#" not in text and ";" not in text:
            assert found[key] == value


@given(ini_files, ini_settings)
def test_second_edit_changes_nothing(text, settings):
    once = edit(text, settings, INI)
    assert edit(once, settings, INI) == once


@given(ini_files, ini_settings)
def test_other_comments_are_preserved(text, settings):
    # A comment inside a replaced value is removed with it. All others are preserved, in their order.
    it = iter(comments_of(text))
    assert all(line in it for line in comments_of(edit(text, settings, INI)))


@given(ini_files, ini_settings)
def test_removal_removes_the_settings_only(text, settings):
    merged = edit(text, settings, INI)
    left = as_pip(edit(merged, removal(settings), INI))
    assert left == {key: value for key, value in as_pip(merged).items() if key not in flat(settings)}


@given(ini_files, ini_settings)
def test_previous_values_are_restored(text, settings):
    old = parse(text, INI)
    back = {s: {n: old.get(s, {}).get(n) for n in keys} for s, keys in settings.items()}
    assert parse(edit(edit(text, settings, INI), back, INI, keep_sections=tuple(old)), INI) == old


def test_new_file():
    assert edit("", SETTINGS_INI, INI) == f"[global]\nindex-url = {URL}\n"


@pytest.mark.parametrize(
    "old", ["index-url=https://example.com/simple", "Index_URL : file:///x  ", "index-url = file:///x"]
)
def test_value_is_replaced_in_place_and_restored_byte_for_byte(old):
    text = f"# mine\n[global]\ntimeout: 20\n{old}\n\n[install]\nuser = true\n"
    new = edit(text, SETTINGS_INI, INI)
    value = parse(text, INI)["global"]["index-url"]
    assert new == text.replace(value, URL, 1)
    assert edit(new, {"global": {"index-url": value}}, INI) == text


def test_new_key_is_added_at_the_end_of_its_section():
    text = "[global]\ntimeout = 20\n\n[install]\nuser = true\n"
    assert (
        edit(text, {"global": {"retries": "1"}}, INI)
        == "[global]\ntimeout = 20\nretries = 1\n\n[install]\nuser = true\n"
    )


def test_spellings_of_a_key():
    assert (
        edit("[global]\nIndex_URL = a\nindex-url = b\n", {"global": {"index-url": "c"}}, INI)
        == "[global]\nIndex_URL = c\n"
    )


def test_value_of_several_lines_is_replaced_and_restored():
    text = "[global]\nextra-index-url =\n    https://a\n    https://b\ntimeout = 1\n"
    new = edit(text, {"global": {"extra-index-url": "https://c"}}, INI)
    assert new == "[global]\nextra-index-url = https://c\ntimeout = 1\n"
    assert edit(new, {"global": parse(text, INI)["global"]}, INI) == text


def test_newlines_are_preserved():
    assert (
        edit("[global]\r\ntimeout = 1\r\n", {"global": {"retries": "2"}}, INI)
        == "[global]\r\ntimeout = 1\r\nretries = 2\r\n"
    )


def test_last_line_without_a_newline():
    assert edit("[global]\ntimeout = 1", {"global": {"retries": "2"}}, INI) == "[global]\ntimeout = 1\nretries = 2\n"


def test_new_section_is_removed():
    text = "[install]\nuser = true\n"
    assert edit(edit(text, SETTINGS_INI, INI), removal(SETTINGS_INI), INI) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_last_section_is_removed(end):
    text = f"[install]{end}user = true {end}"
    assert edit(f"{text}{end} {end}[global]{end}index-url = a{end}", removal(SETTINGS_INI), INI) == text


def test_blank_lines_before_a_section_are_removed_in_linear_time():
    text = "[install]\nuser = true\n"
    assert edit(text + "\n" * 100_000 + "[global]\nindex-url = a\n", removal(SETTINGS_INI), INI) == text


def test_section_to_keep_is_preserved():
    assert edit("[global]\nindex-url = a\n", removal(SETTINGS_INI), INI, keep_sections=("global",)) == "[global]\n"


def test_section_with_a_comment_is_preserved():
    assert edit("[global]\n# why\nindex-url = a\n", removal(SETTINGS_INI), INI) == "[global]\n# why\n"


def test_managed_comments_are_removed():
    assert _edit.without_managed_comments("# Written by devpi.mirror.\n# mine\n[a]\n") == "# mine\n[a]\n"


@pytest.mark.parametrize(
    "text", ["index-url = a\n", "[global\n", "[global]\nindex-url = a\nindex-url = b\n", "[a]\n[a]\n", "\ufeff[a]\n"]
)
def test_invalid_ini_is_rejected(text):
    with pytest.raises(_edit.ParseError):
        parse(text, INI)


def test_parse_errors_contain_no_credentials():
    with pytest.raises(_edit.ParseError) as error:
        parse("index-url = https://ada:secret@example.com\n", INI)
    assert "secret" not in str(error.value)


# TOML

UV = {"pip": {"index-url": f'"{URL}"'}}
UV_DEFAULT = {"[[index]]": {"url": f'"{URL}"', "default": "true"}}
toml_settings = st.sampled_from(
    [UV, UV_DEFAULT, {"plugins.pypi_mirror": {"url": '"x"'}}, {"pip": {"b": "1", "url": "true"}}]
)


def is_toml(text):
    try:
        tomli.loads(text)
    except ValueError:
        return False
    return True


toml_values = st.sampled_from(
    [
        '"text"',
        "'literal # no comment'",
        '"esc\\"aped # \\\\"',
        "12",
        "true",
        "1979-05-27 07:32:00",
        "[1, 2,\n  # inside\n  3]",
        "[\"a]\", 'b[']",
        "{ a = 1, b = { c = [1] } }",
        '"""\n[pip]\nindex-url = "no"\n"""',
        '"""with \\""" and ""quotes"""""',
        "'''\n# inside\n'''",
    ]
)
toml_names = st.sampled_from(["index-url", "url", '"quo ted"', "a.b", "'lit'", "default-x", "b"])
toml_lines = st.one_of(
    st.builds(
        "{0}{1}{2}{3}".format, toml_names, st.sampled_from([" = ", "="]), toml_values, st.sampled_from(["", " # c"])
    ),
    st.sampled_from(["# a comment", "", "  # indented"]),
)
toml_files = files(
    st.builds(
        lambda header, lines: [*header, *lines],
        st.sampled_from(
            [
                [],
                ["[pip]"],
                ["[tool.x]"],
                ["[plugins]"],
                ["[[index]]"],
                ["[[index]]", "default = true"],
                ["[ plugins . pypi_mirror ]"],
            ]
        ),
        st.lists(toml_lines, max_size=4),
    ),
    TOML,
).filter(is_toml)


def edited(text, settings):
    """Return the edited text. Texts with other spellings of the tables are rejected, and are not examples."""
    try:
        return edit(text, settings, TOML)
    except _edit.ParseError:
        assume(False)


def expected(found, settings):
    """Return what a TOML parser finds after the settings are applied to a file with ``found``."""
    for section, keys in settings.items():
        new = tomli.loads("\n".join("{} = {}".format(*pair) for pair in keys.items()))
        if section == "[[index]]":
            tables = found.setdefault("index", [])
            defaults = [one for one in tables if one.get("default") is True]
            if not defaults:
                tables.append({})
            (defaults or tables[-1:])[0].update(new)
            continue
        table = found
        for part in section.split("."):
            table = table.setdefault(part, {})
        table.update(new)
    return found


@given(toml_files, toml_settings)
def test_toml_has_the_other_keys_and_the_settings(text, settings):
    new = edited(text, settings)
    assert tomli.loads(new) == expected(tomli.loads(text), settings)
    # A comment inside a replaced value is removed with it.
    assert [c for c in comments_of(text) if "inside" not in c] == [c for c in comments_of(new) if "inside" not in c]


@given(toml_files, toml_settings)
def test_second_edit_of_toml_changes_nothing(text, settings):
    once = edited(text, settings)
    assert edit(once, settings, TOML) == once


@given(toml_files, toml_settings)
def test_previous_values_of_toml_are_restored(text, settings):
    old = parse(text, TOML)
    back = {s: {n: old.get(s, {}).get(n) for n in keys} for s, keys in settings.items()}
    new = edited(text, settings)
    assert tomli.loads(edit(new, back, TOML, keep_sections=tuple(old))) == tomli.loads(text)


def test_value_of_toml_is_replaced_in_place():
    text = "# mine\n[pip]\nindex-url= 'https://example.com' # corporate\nno-cache = true\n"
    assert edit(text, UV, TOML) == text.replace("'https://example.com'", f'"{URL}"')


def test_table_is_appended():
    assert edit("cache-dir = '/x'\n", UV, TOML) == f"cache-dir = '/x'\n\n[pip]\nindex-url = \"{URL}\"\n"


def test_key_without_a_table_is_added_before_the_first_table():
    text = "# mine\n[pip]\nno-cache = true\n"
    new = edit(text, {"": {"a": "1"}}, TOML)
    assert tomli.loads(new) == {"a": 1, "pip": {"no-cache": True}}
    assert edit(new, {"": {"a": None}}, TOML).lstrip() == text


def test_default_index_is_edited():
    text = '[[index]]\nname = "torch"\nurl = "t"\nexplicit = true\n\n[[index]]\nurl = "corp"\ndefault = true\n'
    assert edit(text, UV_DEFAULT, TOML) == text.replace('"corp"', f'"{URL}"')


def test_default_index_is_added():
    text = '[[index]]\nname = "torch"\nurl = "t"\n'
    new = edit(text, UV_DEFAULT, TOML)
    assert new == text + f'\n[[index]]\nurl = "{URL}"\ndefault = true\n'
    assert edit(new, removal(UV_DEFAULT), TOML) == text


@pytest.mark.parametrize(
    "text",
    ["pip = { no-cache = true }\n", "pip.no-cache = true\n", "[plugins]\npypi_mirror = {}\n", "index = []\n"],
)
def test_other_spellings_of_tables_are_rejected(text):
    settings = {**UV, **UV_DEFAULT, "plugins.pypi_mirror": {"url": '"x"'}}
    with pytest.raises(_edit.ParseError, match="is not written as a table: write it below a line \\["):
        edit(text, settings, TOML)


@pytest.mark.parametrize(
    "text",
    [
        "[pip\n",
        "x = [1\n",
        "x =\n",
        'x = "a\n',
        "x\n",
        "x = 'a' b\n",
        "x = \udcff\n",
        "\ufeffx = 1\n",
        "x = " + "[" * 5000 + "\n",
    ],
)
def test_invalid_toml_is_rejected(text):
    with pytest.raises(_edit.ParseError):
        parse(text, TOML)


# Shell


def test_shell():
    text = "# theirs\nexport A=1\n"
    new = edit(text, {"": {"A": "2", "B": "'x y'"}}, SHELL)
    assert new == "# theirs\nexport A=2\nexport B='x y'\n"
    assert parse(new, SHELL) == {"": {"A": "2", "B": "'x y'"}}
    assert edit(new, {"": {"A": "1", "B": None}}, SHELL) == text
