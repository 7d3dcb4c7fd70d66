# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _pip_config
from ansible_collections.devpi.mirror.plugins.module_utils._pip_config import merge, parse, remove
from hypothesis import given
from hypothesis import strategies as st

OURS = {"global": {"index-url": "http://localhost:3141/root/pypi/+simple/"}}

names = st.sampled_from(["index-url", "INDEX_URL", "timeout", "Trusted-Host", "extra-index-url", "no-index", "cert"])
values = st.lists(st.text("abc:/.=;#% ", min_size=1, max_size=8).map(str.strip), max_size=3).map(
    lambda lines: "\n    ".join([line for line in lines if line and line[0] not in "#;[="] or [""])
)
comments = st.sampled_from(["# a comment", "; another", "", "   ", "    # indented"])
options = st.builds("{0}{1}{2}".format, names, st.sampled_from([" = ", "=", ": ", ":"]), values)
sections = st.builds(
    lambda name, lines: ["[%s]" % name, *lines],
    st.sampled_from(["global", "install", "download", "freeze"]),
    st.lists(st.one_of(options, comments), max_size=6),
)


def parses(text):
    try:
        parse(text)
    except _pip_config.NotParsed:
        return False
    return True


files = (
    st.builds(
        lambda parts, end, last: end.join(line for part in parts for line in part) + (end if last else ""),
        st.lists(sections, max_size=4),
        st.sampled_from(["\n", "\r\n"]),
        st.booleans(),
    )
    .map(lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in text else text)
    .filter(parses)
)
settings = st.dictionaries(
    st.sampled_from(["global", "install"]),
    st.dictionaries(
        st.sampled_from(["index-url", "timeout", "trusted-host"]), st.sampled_from(["x", "y\nz", "10"]), min_size=1
    ),
    min_size=1,
)


def flat(parsed):
    """What pip would use: a value of several lines is split at white space."""
    return {(section, name): value.split() for section, keys in parsed.items() for name, value in keys.items()}


@given(files, settings)
def test_a_merge_gives_the_old_keys_and_ours(text, ours):
    expected = dict(flat(parse(text)))
    expected.update(flat(ours))
    assert flat(parse(merge(text, ours))) == expected


@given(files, settings)
def test_a_second_merge_changes_nothing(text, ours):
    once = merge(text, ours)
    assert merge(once, ours) == once


@given(files, settings)
def test_other_lines_stay_as_they_are(text, ours):
    def others(some):
        return [line for line in some.splitlines() if line.lstrip().startswith(("#", ";"))]

    kept = others(merge(text, ours))
    # A comment inside a value of ours goes with that value; all others stay, in their order.
    it = iter(others(text))
    assert all(line in it for line in kept)


@given(files, settings)
def test_after_a_removal_our_keys_have_gone_and_the_others_are_there(text, ours):
    merged = merge(text, ours)
    left = flat(parse(remove(merged, ours)))
    assert left == {key: value for key, value in flat(parse(merged)).items() if key not in flat(ours)}


def test_a_new_file():
    assert merge("", OURS) == "[global]\nindex-url = http://localhost:3141/root/pypi/+simple/\n"


def test_a_key_is_replaced_where_it_stands():
    text = "# mine\n[global]\ntimeout: 20\nindex-url=https://example.com/simple\n\n[install]\nuser = true\n"
    assert merge(text, OURS) == text.replace(
        "index-url=https://example.com/simple", "index-url = http://localhost:3141/root/pypi/+simple/"
    )


def test_a_key_comes_to_the_end_of_its_section():
    text = "[global]\ntimeout = 20\n\n[install]\nuser = true\n"
    assert (
        merge(text, {"global": {"retries": "1"}}) == "[global]\ntimeout = 20\nretries = 1\n\n[install]\nuser = true\n"
    )


def test_other_spellings_of_a_key_are_the_same_key():
    assert (
        merge("[global]\nIndex_URL = a\nindex-url = b\n", {"global": {"index-url": "c"}}) == "[global]\nindex-url = c\n"
    )


def test_a_value_of_several_lines_goes_whole():
    text = "[global]\nextra-index-url =\n    https://a\n    https://b\ntimeout = 1\n"
    assert merge(text, {"global": {"extra-index-url": "https://c"}}) == (
        "[global]\nextra-index-url = https://c\ntimeout = 1\n"
    )


def test_line_ends_stay():
    assert (
        merge("[global]\r\ntimeout = 1\r\n", {"global": {"retries": "2"}})
        == "[global]\r\ntimeout = 1\r\nretries = 2\r\n"
    )


def test_a_last_line_without_an_end():
    assert merge("[global]\ntimeout = 1", {"global": {"retries": "2"}}) == "[global]\ntimeout = 1\nretries = 2\n"


def test_a_section_that_is_ours_alone_goes():
    text = "[install]\nuser = true\n"
    assert remove(merge(text, OURS), OURS) == text


def test_our_comments_go_and_others_stay():
    assert _pip_config.without_marks("# Written by devpi.mirror.\n# mine\n[a]\n") == "# mine\n[a]\n"


def test_a_section_with_a_comment_stays():
    assert remove("[global]\n# why\nindex-url = a\n", OURS) == "[global]\n# why\n"


@pytest.mark.parametrize(
    "text", ["index-url = a\n", "[global\n", "[global]\nindex-url = a\nindex-url = b\n", "[a]\n[a]\n"]
)
def test_what_pip_could_not_read_is_refused(text):
    with pytest.raises(_pip_config.NotParsed):
        merge(text, OURS)


def test_credentials_are_masked():
    text = "index-url = https://ada:secret@example.com/simple\n"
    assert _pip_config.mask(text) == "index-url = https://***@example.com/simple\n"
    assert _pip_config.credentials(text) == ["ada:secret"]
    assert _pip_config.credentials("index-url = https://example.com/simple\nemail = a@b\n") == []
