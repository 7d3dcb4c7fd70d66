# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml
from ansible_collections.devpi import mirror
from ansible_collections.devpi.mirror.plugins.filter.invalid_values import FilterModule

invalid_values = FilterModule().filters()["invalid_values"]
SIZE = {"name": "devpi_server_memory", "pattern": "[0-9]+[bkmgBKMG]?", "expected": "a size, such as 768m"}
URL = {"name": "devpi_server_http_proxy", "pattern": "(https?://[a-z.:0-9]+)?", "expected": "a URL"}


def test_each_invalid_value_has_a_message():
    assert invalid_values([SIZE, URL, SIZE], ["x", "http://proxy.example:3128", "768 m"]) == [
        "devpi_server_memory is 'x': set it to a size, such as 768m.",
        "devpi_server_memory is '768 m': set it to a size, such as 768m.",
    ]


def test_a_secret_is_not_in_its_message():
    entry = {"name": "x_password", "pattern": "[a-z0-9]*", "cause": "has a space", "expected": "another value"}
    assert invalid_values([entry, entry], ["s3 cret", "s3cret"]) == ["x_password has a space: set it to another value."]


@pytest.mark.parametrize("value", ["768m", 768])
def test_valid_values_have_none(value):
    assert invalid_values([SIZE], [value]) == []


@pytest.mark.parametrize(
    ("kind", "value", "is_valid"),
    [("list", [], True), ("list", ["a"], True), ("list", "a", False), ("list", "", False), ("list", {"a": 1}, False),
     ("dict", {}, True), ("dict", {"a": 1}, True), ("dict", "a=1", False), ("dict", ["a"], False)],
)  # fmt: skip
def test_a_text_is_no_list_and_no_dictionary(kind, value, is_valid):
    entry = {"name": "pip_client_users", "type": kind, "expected": "a list of user names, such as [ada]"}
    found = invalid_values([entry], [value])
    expected = f"pip_client_users is not a {kind}: set it to a list of user names, such as [ada]."
    assert found == ([] if is_valid else [expected])


def test_an_undefined_value_is_an_empty_one():
    assert invalid_values([URL], [None]) == []
    assert invalid_values([SIZE], [None]) == ["devpi_server_memory is '': set it to a size, such as 768m."]


@pytest.mark.parametrize("value", ["768m\n", "\n768m", "768m, 1g"])
def test_the_whole_value_must_match(value):
    assert len(invalid_values([SIZE], [value])) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("socks5://bob:s3cret@proxy.example", "socks5://***@proxy.example"),
        ("http://bob:s3/cr@t@proxy.example/?", "http://***@proxy.example/?"),
        ("http://bob:s3\ncret@proxy", "http://***@proxy"),
        ("bob:s3cret@proxy.example", "***@proxy.example"),
        ("bob:s3://cret@proxy.example", "***@proxy.example"),
        ("no url", "no url"),
    ],
)
def test_credentials_are_masked(value, shown):
    assert invalid_values([URL], [value]) == [f"devpi_server_http_proxy is '{shown}': set it to a URL."]


def test_each_pattern_needs_a_value():
    with pytest.raises(ValueError, match="2 patterns and 1 values"):
        invalid_values([SIZE, URL], ["1m"])


@pytest.mark.parametrize("name", ["devpi_server_memory", "devpi_server_log_size"])
@pytest.mark.parametrize(
    ("value", "is_valid"), [("768m", True), ("768M", True), ("2G", True), (1000, True), ("768mb", False)]
)
def test_the_units_of_the_roles_sizes_may_be_in_upper_case(name, value, is_valid):
    file = Path(mirror.__path__[0]) / "roles" / "devpi_server" / "vars" / "main" / "validation.yml"
    patterns = yaml.safe_load(file.read_text())["__devpi_server_value_patterns"]
    (entry,) = [entry for entry in patterns if entry["name"] == name]
    assert (invalid_values([entry], [value]) == []) == is_valid


@pytest.mark.parametrize("role", ["devpi_server", "docker_engine", "pip_client"])
def test_the_types_of_lists_and_dictionaries_are_checked(role):
    """With ``-e name=value``, argument specs accept a text in their place."""
    folder = Path(mirror.__path__[0]) / "roles" / role
    files = [*folder.glob("vars/main.yml"), *folder.glob("vars/main/*.yml")]
    variables = {name: value for file in files for name, value in yaml.safe_load(file.read_text()).items()}
    entries = variables.get(f"__{role}_value_types") or variables[f"__{role}_value_patterns"]
    options = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    expected = {name: option["type"] for name, option in options.items() if option["type"] in ("list", "dict")}
    assert {entry["name"]: entry["type"] for entry in entries if entry.get("type") in ("list", "dict")} == expected


class VaultedText:
    """A text of Ansible Vault, in releases of ansible-core before 2.19."""

    __ENCRYPTED__ = True

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


CONTROL = "contains control characters, or white space at its beginning or end"


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("", ""),
        ("s", ""),
        ("s3cret of \u00fcser", ""),
        (VaultedText("s3cret"), ""),
        (VaultedText("s3cret\n"), CONTROL),
        ("s3cret\n", CONTROL),
        (" s3cret", CONTROL),
        ("s3cret ", CONTROL),
        ("s3\tcret", CONTROL),
        ("s3\x7fcret", CONTROL),
        (3141, "is not a text"),
        (None, "is not a text"),
        (True, "is not a text"),
        (datetime.date(2026, 11, 28), "is not a text"),
        (["s3cret"], "is not a text"),
    ],
)
def test_password_of_root(value, cause):
    file = Path(mirror.__path__[0]) / "roles" / "devpi_server" / "vars" / "main" / "validation.yml"
    patterns = yaml.safe_load(file.read_text())["__devpi_server_value_patterns"]
    (entry,) = [entry for entry in patterns if entry["name"] == "devpi_server_root_password"]
    messages = invalid_values([entry], [value])
    assert len(messages) == bool(cause)
    assert all(message.startswith(f"devpi_server_root_password {cause}: set it to a password") for message in messages)
    assert "s3cret" not in "".join(messages)
