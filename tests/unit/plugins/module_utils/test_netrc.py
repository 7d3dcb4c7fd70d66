# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import netrc
import re
import sys

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask
from ansible_collections.devpi.mirror.plugins.module_utils._edit import ParseError, edit, parse
from ansible_collections.devpi.mirror.plugins.module_utils._netrc import NETRC, check_entry, entry
from hypothesis import given
from hypothesis import strategies as st

URL = "https://devpi.example.com:8443/acme/stable/+simple/"
HOST = "devpi.example.com"
OURS = f"machine {HOST} login reader password s3cret\n"


def added(text, content=OURS):
    return edit(text, parse(content, NETRC), NETRC)


def removed(text):
    return edit(text, {"": {HOST: None}}, NETRC)


def logins(text, folder):
    """Return login and password by host, as Python reads them."""
    path = folder / "netrc"
    path.write_bytes(text.encode())
    return {host: (found[0], found[2]) for host, found in netrc.netrc(str(path)).hosts.items()}


def test_the_entry_has_the_host_without_the_port():
    assert entry(URL, "reader", "s3cret") == OURS
    assert entry("http://Devpi.Example.com/x/", "reader", "s3cret") == OURS


@pytest.mark.parametrize("password", ["a", "it's", 'a"b', "#1", "p%3A:@/;|$(x)`!&<>*?~[]{}^", "password", "machine"])
def test_python_reads_a_valid_password_unchanged(tmp_path, password):
    text = entry(URL, "reader", password)
    assert logins(text, tmp_path) == {HOST: ("reader", password)}
    assert mask(text, NETRC.secrets) == f"machine {HOST} login reader password ***\n"


@pytest.mark.parametrize(
    "value", ["", "a b", "a\tb", "a\nb", "a\n", "a\0", "a\x7f", '"quoted"', "back\\slash", "Grüße", "a\xa0b"]
)
def test_an_ambiguous_password_is_refused_and_not_printed(value):
    with pytest.raises(ValueError, match=r"^password: ") as caught:
        entry(URL, "reader", value)
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize("value", ["", "a b", "a:b", "a\nb", '"a"', "a\\b", "é"])
def test_an_ambiguous_username_is_refused(value):
    with pytest.raises(ValueError, match=r"^username: "):
        entry(URL, value, "s3cret")


@pytest.mark.parametrize(
    "url",
    ["", "x", "http://[::1]:3141/", "http://[::1", "https://größe.example.com/", "https://reader:pw@example.com/"],
)
def test_a_url_without_a_host_for_netrc_is_refused(url):
    with pytest.raises(ValueError, match=r"^index_url: ") as caught:
        entry(url, "reader", "s3cret")
    assert "pw" not in str(caught.value)


OTHER = "machine other.example.com login ada password hers\n"
DEFAULT = "default login anonymous password ada@example.com\n"
MACRO = "macdef init\ncd /pub\n\tmput password x\n\n"
FILES = {
    "empty": "",
    "entry": OTHER,
    "without-newline": OTHER.rstrip(),
    "windows": OTHER.replace("\n", "\r\n"),
    "lines": "# mine\nmachine other.example.com\n\tlogin ada\n\tpassword hers # secret\n# end\n",
    "tokens": "machine other.example.com\nlogin\nada\npassword\nhers\n",
    "default": DEFAULT,
    "entry-and-default": OTHER + DEFAULT,
    "one-line": OTHER.strip() + " " + DEFAULT,
    "macro": MACRO,
    "macro-of-an-entry": OTHER + MACRO + DEFAULT,
    "macro-of-default": OTHER + DEFAULT + MACRO,
    "two-macros": OTHER + MACRO + MACRO,
    "comment": "# machine devpi.example.com login ada password hers",
}


@pytest.mark.parametrize("name", FILES)
def test_everything_else_is_preserved(tmp_path, name):
    text = FILES[name]
    new = added(text)
    assert logins(new, tmp_path) == {**logins(text, tmp_path), HOST: ("reader", "s3cret")}
    line = OURS.replace("\n", "\r\n" if "\r\n" in text else "\n")
    before, after = new.split(line)
    assert (before + after).split() == text.split()
    # The entry "default" is the last one, and a macro stays with its entry.
    assert "default" not in before.split()
    assert MACRO not in after or DEFAULT in after
    assert removed(new).split() == text.split()
    # Newlines that were added remain.
    assert removed(new) == text or name in ("without-newline", "comment", "one-line")


@pytest.mark.parametrize(
    "theirs",
    [
        f"machine {HOST} login ada password hers",
        f"  machine {HOST}\n\tlogin ada\n\taccount x # mine\n\tpassword hers",
        f'machine "{HOST}" user ada password hers',
        f"machine {HOST}",
    ],
)
def test_an_entry_of_the_same_host_is_replaced_and_restored(theirs):
    text = f"# mine\n{theirs}\n{OTHER}{DEFAULT}"
    before = parse(text, NETRC)
    new = added(text)
    assert parse(new, NETRC)[""][HOST] == " login reader password s3cret"
    assert new.endswith(OTHER + DEFAULT)
    assert "hers" not in new.replace(OTHER, "")
    assert edit(new, {"": {HOST: before[""][HOST]}}, NETRC) == text


def test_a_second_entry_of_the_same_host_is_refused():
    text = OTHER + f"machine {HOST} login ada password hers\n" * 2
    with pytest.raises(ParseError, match=f"several entries for {HOST}: remove all but one"):
        check_entry(text, OURS)
    check_entry(OTHER * 2 + f"machine {HOST} login ada password hers\n", OURS)
    # Of two entries, only the first one is the collection's.
    assert removed(OURS + OTHER + OURS) == OTHER + OURS


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hunter2\n", 1),
        (OTHER + "machine x login ada hunter2\n", 2),
        ("machine", 1),
        (OTHER + "machine x login", 2),
        ('machine ""\n', 1),
        (OTHER + '\nmachine x password "hunter2\n', 3),
        ("#hunter2 is secret\n" + OTHER, 1),
        ("# mine\n\n# hunter2 is secret\n" + OTHER, 3),
        (OTHER + "\n# hunter2 is secret\n", 3),
        ("default\nmacdef\n", 2),
        ("default\nmacdef init\nhunter2\n", 2),
        ("\ufeff" + OTHER, 1),
        ("password hunter2", 1),
    ],
)
def test_a_file_that_can_not_be_read_is_reported_without_its_text(text, line):
    with pytest.raises(ParseError, match=f"^could not parse line {line}(:|$)") as caught:
        parse(text, NETRC)
    assert "hunter2" not in str(caught.value)
    assert mask(text, NETRC.secrets) == "***"


def test_secrets_are_masked():
    text = (
        '# machine a login b password hunter2\nmachine a login password password "hunter2 x" account hunter2\n'
        "machine b login c password hunter2 # password hunter2\nmacdef init\naccount hunter2\n\n"
    )
    assert mask(text, NETRC.secrets) == (
        "# machine a login b password ***\nmachine a login password password *** account ***\n"
        "machine b login c password *** # password ***\nmacdef init\naccount ***\n\n"
    )
    assert NETRC.secrets("machine a login b\n") == []


words = st.sampled_from(["a", "b.example.com", HOST, "login", "#x", "it's"])
spaces = st.sampled_from([" ", "\n  ", "\t", "\r\n"])
entries = st.builds(
    "machine {0}{3}login {1}{3}password {2}{4}".format,
    words,
    words,
    words,
    spaces,
    st.sampled_from(["\n", "\n\n", " # password x\n", " # x y\r\n", " ", "\n# x\n"]),
)
others = st.sampled_from(
    ["# a comment\n", "#\n", "#comment\n", "#a comment\n", "# \n", "\n", " ", "\r\n", MACRO, DEFAULT]
)
netrc_files = st.lists(st.one_of(entries, others), max_size=6).map("".join)


@given(netrc_files)
def test_python_reads_what_was_added(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    is_accepted, before = True, None
    try:
        parse(text, NETRC)
    except ParseError:
        is_accepted = False
    with contextlib.suppress(netrc.NetrcParseError):
        before = logins(text, folder)
    # Earlier versions read other files than later ones and uv.
    assert is_accepted == (before is not None) or sys.version_info < (3, 11)
    if not is_accepted or before is None or f"{HOST} 2" in parse(text, NETRC).get("", {}):
        return
    # Before 3.11, Python also skips the line after a comment without text.
    if sys.version_info < (3, 11) and re.search(r"#[ \t]*(?:[\r\n]|$)", text):
        return
    new = added(text)
    assert logins(new, folder) == {**before, HOST: ("reader", "s3cret")}
    assert added(new) == new
    assert "s3cret" not in mask(new, NETRC.secrets)
