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
OURS = {"global": {"index-url": URL}}
LINE_ENDS = st.sampled_from(["\n", "\r\n"])


def gone(settings):
    """Changes that take these settings out."""
    return {section: dict.fromkeys(keys) for section, keys in settings.items()}


def files(sections, form):
    """Texts of these sections, each a list of lines, that their program could read."""

    def parses(text):
        try:
            parse(text, form)
        except _edit.NotParsed:
            return False
        return True

    return st.builds(
        lambda parts, end, last: end.join(line for part in parts for line in part) + (end if last else ""),
        st.lists(sections, max_size=4),
        LINE_ENDS,
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
        lambda name, lines: ["[%s]" % name, *lines],
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
    """What pip reads: by section and key, values split at white space."""
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
def test_a_merge_gives_pip_the_old_keys_and_ours(text, ours):
    expected = dict(as_pip(text))
    expected.update(flat(ours))
    assert as_pip(edit(text, ours, INI)) == expected


@given(ini_files)
def test_what_is_parsed_is_what_pip_reads(text):
    # A key in two spellings is two to configparser. Only the first is looked at, and the second goes when it is set.
    found = as_pip(text)
    for key, value in flat(parse(text, INI)).items():
        assert key in found
        if text.lower().replace("_", "-").count(key[1]) == 1 and "#" not in text and ";" not in text:
            assert found[key] == value


@given(ini_files, ini_settings)
def test_a_second_merge_changes_nothing(text, ours):
    once = edit(text, ours, INI)
    assert edit(once, ours, INI) == once


@given(ini_files, ini_settings)
def test_other_comments_stay_as_they_are(text, ours):
    # A comment inside a value of ours goes with that value; all others stay, in their order.
    it = iter(comments_of(text))
    assert all(line in it for line in comments_of(edit(text, ours, INI)))


@given(ini_files, ini_settings)
def test_after_a_removal_our_keys_have_gone_and_the_others_are_there(text, ours):
    merged = edit(text, ours, INI)
    left = as_pip(edit(merged, gone(ours), INI))
    assert left == {key: value for key, value in as_pip(merged).items() if key not in flat(ours)}


@given(ini_files, ini_settings)
def test_old_values_that_are_put_back_are_as_they_were(text, ours):
    old = parse(text, INI)
    back = {s: {n: old.get(s, {}).get(n) for n in keys} for s, keys in ours.items()}
    assert parse(edit(edit(text, ours, INI), back, INI, keep=tuple(old)), INI) == old


def test_a_new_file():
    assert edit("", OURS, INI) == "[global]\nindex-url = %s\n" % URL


@pytest.mark.parametrize(
    "old", ["index-url=https://example.com/simple", "Index_URL : file:///x  ", "index-url = file:///x"]
)
def test_a_value_is_replaced_where_it_stands_and_put_back_to_the_byte(old):
    text = "# mine\n[global]\ntimeout: 20\n%s\n\n[install]\nuser = true\n" % old
    new = edit(text, OURS, INI)
    value = parse(text, INI)["global"]["index-url"]
    assert new == text.replace(value, URL, 1)
    assert edit(new, {"global": {"index-url": value}}, INI) == text


def test_a_key_comes_to_the_end_of_its_section():
    text = "[global]\ntimeout = 20\n\n[install]\nuser = true\n"
    assert (
        edit(text, {"global": {"retries": "1"}}, INI)
        == "[global]\ntimeout = 20\nretries = 1\n\n[install]\nuser = true\n"
    )


def test_other_spellings_of_a_key_are_the_same_key():
    assert (
        edit("[global]\nIndex_URL = a\nindex-url = b\n", {"global": {"index-url": "c"}}, INI)
        == "[global]\nIndex_URL = c\n"
    )


def test_a_value_of_several_lines_goes_whole_and_comes_back():
    text = "[global]\nextra-index-url =\n    https://a\n    https://b\ntimeout = 1\n"
    new = edit(text, {"global": {"extra-index-url": "https://c"}}, INI)
    assert new == "[global]\nextra-index-url = https://c\ntimeout = 1\n"
    assert edit(new, {"global": parse(text, INI)["global"]}, INI) == text


def test_line_ends_stay():
    assert (
        edit("[global]\r\ntimeout = 1\r\n", {"global": {"retries": "2"}}, INI)
        == "[global]\r\ntimeout = 1\r\nretries = 2\r\n"
    )


def test_a_last_line_without_an_end():
    assert edit("[global]\ntimeout = 1", {"global": {"retries": "2"}}, INI) == "[global]\ntimeout = 1\nretries = 2\n"


def test_a_section_that_is_ours_alone_goes():
    text = "[install]\nuser = true\n"
    assert edit(edit(text, OURS, INI), gone(OURS), INI) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_last_section_is_removed_alone(end):
    text = f"[install]{end}user = true {end}"
    assert edit(f"{text}{end} {end}[global]{end}index-url = a{end}", gone(OURS), INI) == text


def test_many_blank_lines_before_a_section_are_removed_in_linear_time():
    text = "[install]\nuser = true\n"
    assert edit(text + "\n" * 100_000 + "[global]\nindex-url = a\n", gone(OURS), INI) == text


def test_a_section_that_was_there_stays_when_it_is_kept():
    assert edit("[global]\nindex-url = a\n", gone(OURS), INI, keep=("global",)) == "[global]\n"


def test_a_section_with_a_comment_stays():
    assert edit("[global]\n# why\nindex-url = a\n", gone(OURS), INI) == "[global]\n# why\n"


def test_our_comments_go_and_others_stay():
    assert _edit.without_marks("# Written by devpi.mirror.\n# mine\n[a]\n") == "# mine\n[a]\n"


@pytest.mark.parametrize(
    "text", ["index-url = a\n", "[global\n", "[global]\nindex-url = a\nindex-url = b\n", "[a]\n[a]\n", "\ufeff[a]\n"]
)
def test_what_pip_could_not_read_is_refused(text):
    with pytest.raises(_edit.NotParsed):
        parse(text, INI)


def test_what_is_refused_is_told_without_credentials():
    with pytest.raises(_edit.NotParsed) as refused:
        parse("index-url = https://ada:secret@example.com\n", INI)
    assert "secret" not in str(refused.value)


# TOML

UV = {"pip": {"index-url": '"%s"' % URL}}
UV_DEFAULT = {"[[index]]": {"url": '"%s"' % URL, "default": "true"}}
SETTINGS = st.sampled_from(
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


def edited(text, ours):
    """Return the edited text. Files that write our tables in another way are refused, and not examples here."""
    try:
        return edit(text, ours, TOML)
    except _edit.NotParsed:
        assume(False)


def expected(found, ours):
    """What a reader of TOML should find when ours has been put into a file with ``found``."""
    for section, keys in ours.items():
        new = tomli.loads("\n".join("%s = %s" % pair for pair in keys.items()))
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


@given(toml_files, SETTINGS)
def test_toml_has_the_old_keys_and_ours(text, ours):
    new = edited(text, ours)
    assert tomli.loads(new) == expected(tomli.loads(text), ours)
    # A comment inside a value of ours goes with that value.
    assert [c for c in comments_of(text) if "inside" not in c] == [c for c in comments_of(new) if "inside" not in c]


@given(toml_files, SETTINGS)
def test_a_second_edit_of_toml_changes_nothing(text, ours):
    once = edited(text, ours)
    assert edit(once, ours, TOML) == once


@given(toml_files, SETTINGS)
def test_toml_is_as_it_was_when_old_values_are_put_back(text, ours):
    old = parse(text, TOML)
    back = {s: {n: old.get(s, {}).get(n) for n in keys} for s, keys in ours.items()}
    new = edited(text, ours)
    assert tomli.loads(edit(new, back, TOML, keep=tuple(old))) == tomli.loads(text)


def test_a_value_of_toml_is_replaced_where_it_stands():
    text = "# mine\n[pip]\nindex-url= 'https://example.com' # corporate\nno-cache = true\n"
    assert edit(text, UV, TOML) == text.replace("'https://example.com'", '"%s"' % URL)


def test_a_table_is_appended():
    assert edit("cache-dir = '/x'\n", UV, TOML) == "cache-dir = '/x'\n\n[pip]\nindex-url = \"%s\"\n" % URL


def test_what_is_in_no_table_comes_before_the_first():
    text = "# mine\n[pip]\nno-cache = true\n"
    new = edit(text, {"": {"a": "1"}}, TOML)
    assert tomli.loads(new) == {"a": 1, "pip": {"no-cache": True}}
    assert edit(new, {"": {"a": None}}, TOML).lstrip() == text


def test_the_default_index_is_the_one_that_is_set():
    text = '[[index]]\nname = "torch"\nurl = "t"\nexplicit = true\n\n[[index]]\nurl = "corp"\ndefault = true\n'
    assert edit(text, UV_DEFAULT, TOML) == text.replace('"corp"', '"%s"' % URL)


def test_without_a_default_index_there_is_a_new_one():
    text = '[[index]]\nname = "torch"\nurl = "t"\n'
    new = edit(text, UV_DEFAULT, TOML)
    assert new == text + '\n[[index]]\nurl = "%s"\ndefault = true\n' % URL
    assert edit(new, gone(UV_DEFAULT), TOML) == text


@pytest.mark.parametrize(
    "text",
    ["pip = { no-cache = true }\n", "pip.no-cache = true\n", "[plugins]\npypi_mirror = {}\n", "index = []\n"],
)
def test_tables_in_another_way_are_refused_and_not_broken(text):
    ours = {**UV, **UV_DEFAULT, "plugins.pypi_mirror": {"url": '"x"'}}
    with pytest.raises(_edit.NotParsed, match="is not written as a table: write it below a line \\["):
        edit(text, ours, TOML)


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
def test_what_is_no_toml_is_refused(text):
    with pytest.raises(_edit.NotParsed):
        parse(text, TOML)


# Lines for a shell


def test_lines_for_a_shell():
    text = "# theirs\nexport A=1\n"
    new = edit(text, {"": {"A": "2", "B": "'x y'"}}, SHELL)
    assert new == "# theirs\nexport A=2\nexport B='x y'\n"
    assert parse(new, SHELL) == {"": {"A": "2", "B": "'x y'"}}
    assert edit(new, {"": {"A": "1", "B": None}}, SHELL) == text


def test_credentials_are_masked():
    text = "index-url = https://ada:secret@example.com/simple\n"
    assert _edit.mask(text) == "index-url = https://***@example.com/simple\n"
    assert _edit.credentials(text) == ["ada:secret"]
    assert _edit.mask("https://ada:p@ss@example.com/a@1") == "https://***@example.com/a@1"
    assert _edit.credentials("https://ada:p@ss@example.com/") == ["ada:p@ss"]
    assert _edit.credentials("index-url = https://example.com/simple\nemail = a@b\n") == []
