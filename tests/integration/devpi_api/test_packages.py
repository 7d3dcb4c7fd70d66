# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules devpi_package, devpi_token, devpi_index_info and devpi_user_info, with real uploads."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import ADA_PASSWORD, ROOT_PASSWORD, Server, plain

pytestmark = plain
ADA = {"url_username": "ada", "url_password": ADA_PASSWORD}
IN_TEN_DAYS = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 864_000))
# Each change of the tokens of a user, with the number of tokens that it creates or deletes. A token that another change had
# deleted could not be deleted.
TOKENS: list[tuple[dict[str, Any], int]] = [
    ({}, 1),
    ({"allowed": ["upload"]}, 1),
    ({"allowed": ["upload", "pkg_read"]}, 1),
    ({"allowed": ["upload"], "indexes": ["ada/testing"]}, 1),
    ({"allowed": ["upload"], "indexes": ["ada/testing"], "projects": ["Hello.World"]}, 1),
    ({"allowed": ["upload"], "expires": IN_TEN_DAYS}, 1),
    ({"allowed": ["upload"], "expires": "never"}, 1),
    ({"state": "absent", "allowed": ["upload"], "expires": "never"}, 1),
    ({"state": "absent", "allowed": ["upload"]}, 2),
    ({"state": "absent", "allowed": ["upload"], "indexes": ["ada/testing"]}, 1),
    ({"state": "absent", "allowed": ["upload"], "indexes": ["ada/testing"], "projects": ["hello-world"]}, 1),
    ({"state": "absent", "allowed": ["pkg_read", "upload"]}, 1),
    ({"state": "absent"}, 1),
]


def build_wheel(folder: Path, name: str, version: str, summary: str) -> str:
    """Build a wheel without modules, and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in (
            ("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"),
            ("WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ):
            # With a fixed time, so that the same text is the same file.
            archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/{member}"), text)
    return str(path)


class Wheels:
    """Paths of wheels. ``other`` has the name of ``first`` and another content."""

    def __init__(self, folder: Path) -> None:
        self.first = build_wheel(folder / "first", "hello", "1.0", "first")
        self.second = build_wheel(folder / "first", "hello", "2.0", "first")
        self.other = build_wheel(folder / "other", "hello", "1.0", "other")
        self.goodbye = build_wheel(folder / "first", "goodbye", "1.0", "first")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return Wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(autouse=True)
def indexes(server: Server, ada: None) -> Iterator[None]:
    """The index ada/testing, which is volatile, and ada/stable, which is not."""
    server.apply("devpi_index", name="ada/testing", acl_upload=["ada", "root"])
    server.apply("devpi_index", name="ada/stable", acl_upload=["root"], volatile=False)
    yield
    server.remove_index("ada/testing")
    server.remove_index("ada/stable")


def test_each_change_of_packages(server: Server, wheels: Wheels) -> None:
    first, second = Path(wheels.first).name, Path(wheels.second).name
    release = {"name": "hello", "version": "1.0"}
    changes: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"files": [wheels.first, wheels.second]}, {first: "added", second: "added"}),
        ({"files": [wheels.other]}, {first: "replaced"}),
        ({"files": [wheels.first]}, {first: "replaced"}),
        ({"index": "ada/stable", "copy_from": "ada/testing", **release}, {first: "added"}),
        ({"name": "hello", "version": "2.0", "state": "absent"}, {second: "removed"}),
        ({"name": "hello", "state": "absent"}, {first: "removed"}),
        ({"index": "ada/stable", **release, "state": "absent", "force": True}, {first: "removed"}),
    ]
    for options, files in changes:
        change = server.change("devpi_package", **{"index": "ada/testing", **options})
        assert change.actual["changed"], options
        assert change.predicted["files"] == change.actual["files"] == files
        assert change.predicted["diff"] == change.actual["diff"]
        assert change.serials > 0


@pytest.mark.parametrize("check_mode", [False, True])
def test_changes_of_packages_are_refused(server: Server, wheels: Wheels, check_mode: bool) -> None:
    server.apply("devpi_package", index="ada/testing", files=[wheels.first])
    server.apply("devpi_package", index="ada/stable", files=[wheels.first])
    refusals: list[tuple[str, dict[str, Any]]] = [
        ("is not volatile", {"files": [wheels.other]}),
        ("is not volatile", {"name": "hello", "version": "1.0", "state": "absent"}),
        ("has no files of hello 3.0", {"copy_from": "ada/testing", "name": "hello", "version": "3.0"}),
        ("No such file", {"files": ["/nonexistent/hello-1.0-py3-none-any.whl"]}),
        ("is a mirror index", {"index": "root/pypi", "files": [wheels.first]}),
        ("the user ada has no permission", {"files": [wheels.second], **ADA}),
        ("url_password is wrong", {"files": [wheels.second], "url_password": "other-than-that-of-root"}),
    ]
    for message, options in refusals:
        server.refuse("devpi_package", message, **{"index": "ada/stable", "check_mode": check_mode, **options})
    # An earlier task may create the index.
    if not check_mode:
        server.refuse("devpi_package", "does not exist", index="ada/nothing", files=[wheels.first])


def test_each_change_of_tokens(server: Server) -> None:
    for options, count in TOKENS:
        is_present = "state" not in options
        change = server.change("devpi_token", user="ada", **options)
        predicted, actual, repeated = change.results
        assert actual["changed"], options
        assert change.serials == count
        assert ("token" in actual) == is_present
        assert "token" not in predicted
        assert "token" not in repeated
        assert predicted["tokens"] == {}
        assert len(actual["tokens"]) == is_present
        assert actual["tokens"] == repeated["tokens"]
        assert predicted["diff"]["before"] == actual["diff"]["before"]
        assert len(actual["diff"]["before"]) == (0 if is_present else count)
        # The ID and the default expiration of a new token are unknown before it is created.
        assert restrictions(predicted) <= restrictions(actual)
        if is_present:
            assert actual["token"].startswith("devpi-")
            assert actual["token"] not in json.dumps([actual["diff"], repeated])
        assert ROOT_PASSWORD not in json.dumps(change.results)


def restrictions(result: dict[str, Any]) -> set[str]:
    """Return all restrictions of the tokens after a change."""
    return {line for lines in result["diff"]["after"].values() for line in lines}


def test_a_token_permits_what_it_names_only(server: Server, wheels: Wheels) -> None:
    token = {"user": "ada", "allowed": ["upload"], "indexes": ["ada/testing"], "projects": ["hello"]}
    secret = server.apply("devpi_token", **token)["token"]
    login = {"url_username": "ada", "url_password": secret}
    upload = {"index": "ada/testing", "files": [wheels.first], **login}
    refusals: list[tuple[str, dict[str, Any]]] = [
        ("the user ada has no permission", {"index": "ada/stable"}),
        ("the user ada has no permission", {"files": [wheels.goodbye]}),
        ("url_password is wrong", {"url_username": "__token__"}),
    ]
    for message, options in refusals:
        assert "Nothing was changed." in server.refuse("devpi_package", message, **{**upload, **options})
    refused = server.refuse("devpi_token", "has no permission", user="ada", **login)
    assert "Nothing was changed." in refused

    assert server.apply("devpi_package", **upload)["changed"]
    assert server.apply("devpi_token", **token, state="absent")["changed"]
    server.refuse("devpi_package", "url_password is wrong", **{**upload, "files": [wheels.second]})


def test_the_modules_that_list_users_and_indexes(server: Server) -> None:
    mirror = {"type": "mirror", "volatile": False, "mirror_url": "https://example.com/simple/"}
    server.apply("devpi_index", name="ada/mirror", **mirror)
    server.register("ada/stable", "hello", "1.0")
    names = ["ada/base", "ada/mirror", "ada/stable", "ada/testing"]
    indexes = server.apply("devpi_index_info")["indexes"]
    assert sorted(indexes) == [*names, "root/pypi"]
    assert indexes["ada/mirror"] == mirror
    assert indexes["ada/stable"]["type"] == "private"
    found = server.apply("devpi_index_info", name="ada/stable", projects=True)["indexes"]
    assert found == {"ada/stable": {**indexes["ada/stable"], "projects": ["hello"]}}

    assert sorted(server.apply("devpi_user_info")["users"]) == ["ada", "root"]
    assert server.apply("devpi_user_info", name="ada")["users"] == {"ada": {"indexes": names}}
    assert server.apply("devpi_user_info", name="eve")["users"] == {}

    # The index has packages and is not volatile.
    assert server.apply("devpi_index", name="ada/stable", state="absent", force=True)["changed"]
    assert server.apply("devpi_index_info", name="ada/stable")["indexes"] == {}
    server.remove_index("ada/mirror")
