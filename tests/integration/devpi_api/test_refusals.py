# SPDX-License-Identifier: GPL-3.0-or-later
"""What devpi_index and devpi_user refuse, and that nothing is changed then."""

from __future__ import annotations

from typing import Any

import pytest
from servers import ADA_PASSWORD, Server, only, plain

ADA = {"url_username": "ada", "url_password": ADA_PASSWORD}
WRONG = {"url_password": "other-than-that-of-root"}
INDEXES: list[tuple[str, dict[str, Any]]] = [
    ("url_password is wrong", {"title": "x", **WRONG}),
    ("url_password is wrong", {"title": "x", **WRONG, "check_mode": True}),
    ("this user does not exist", {"title": "x", "url_username": "eve"}),
    ("the user ada has no permission", {"title": "x", **ADA}),
    ("the user ada has no permission", {"state": "absent", **ADA}),
    ("the user ada has no permission", {"name": "ada/new", **ADA}),
    ("the user eve does not exist", {"name": "eve/dev"}),
    ("eve/dev, which does not exist", {"bases": ["eve/dev"]}),
    ("acl_upload contains eve, and this user does not exist", {"acl_upload": ["eve"]}),
    ("inherit from itself", {"bases": ["root/pypi", "ada/packages"]}),
    ("ada/base is a private index", {"type": "mirror", "mirror_url": "https://example.com/simple/"}),
    ("ada/mirror is a mirror index", {"name": "ada/mirror", "type": "private"}),
    ("A mirror index has no setting bases", {"name": "ada/mirror", "bases": ["root/pypi"]}),
    ("A private index has no setting block", {"block": ["evil-*"]}),
    ("it is not volatile and has packages", {"name": "ada/packages", "state": "absent"}),
    ("it is not volatile and has packages", {"name": "ada/packages", "state": "absent", "check_mode": True}),
    ("it is not volatile and is a mirror index", {"name": "ada/mirror", "state": "absent"}),
]
INDEXES_OF_7: list[tuple[str, dict[str, Any]]] = [
    ("has no setting mirror_ignore_serial_header", {"name": "ada/mirror", "mirror_ignore_serial_header": True}),
    ("does not support mirror_whitelist", {"mirror_whitelist": ["hello"]}),
]
USERS: list[tuple[str, dict[str, Any]]] = [
    ("url_password is wrong", {"title": "x", **WRONG}),
    ("the user ada has no permission", {"title": "x", **ADA}),
    ("the user ada has no permission", {"name": "eve", **ADA}),
    ("non-volatile indexes ada/mirror, ada/packages", {"state": "absent"}),
]
POLICIES: dict[str, Any] = {
    "min_release_age": "7d",
    "min_release_age_exceptions": ["urllib3==2.5.1"],
    "block": ["evil-*"],
    "allow": ["pip"],
    "hide_yanked": True,
}


@pytest.fixture(scope="module", autouse=True)
def indexes(server: Server, ada: None) -> None:
    """A private index with a package, and a mirror index, which are not volatile."""
    server.apply("devpi_index", name="ada/packages", acl_upload=["root"], bases=["ada/base"], volatile=False)
    server.apply(
        "devpi_index", name="ada/mirror", type="mirror", mirror_url="https://example.com/simple/", volatile=False
    )
    server.register("ada/packages", "hello", "1.0")


def refuse(server: Server, module: str, message: str, options: dict[str, Any]) -> None:
    assert "Nothing was changed." in server.refuse(module, message, **options)


@pytest.mark.parametrize(("message", "options"), INDEXES)
def test_a_change_of_an_index_is_refused(server: Server, message: str, options: dict[str, Any]) -> None:
    refuse(server, "devpi_index", message, {"name": "ada/base", **options})


@only(release="7")
@pytest.mark.parametrize(("message", "options"), INDEXES_OF_7)
def test_devpi_7_lacks_settings(server: Server, message: str, options: dict[str, Any]) -> None:
    refuse(server, "devpi_index", message, {"name": "ada/base", **options})


@plain
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["ada/mirror", "ada/new"])
def test_package_policies_need_the_image(server: Server, name: str, policy: str) -> None:
    new = {"type": "mirror", "mirror_url": "https://example.com/simple/"} if name == "ada/new" else {}
    options = {"name": name, policy: POLICIES[policy], **new}
    refuse(
        server, "devpi_index", f"does not support {policy}, for which it needs the image of this collection", options
    )


@plain
def test_the_list_of_readers_needs_the_image(server: Server) -> None:
    options = {"name": "ada/packages", "acl_read": ["ada"]}
    refuse(server, "devpi_index", "does not support acl_read, for which it needs the image of this collection", options)


@pytest.mark.parametrize(("message", "options"), USERS)
def test_a_change_of_a_user_is_refused(server: Server, message: str, options: dict[str, Any]) -> None:
    refuse(server, "devpi_user", message, {"name": "ada", **options})


def test_an_index_can_be_changed_after_its_base_was_removed(server: Server) -> None:
    assert server.apply("devpi_index", name="ada/base", state="absent")["changed"]
    assert server.apply("devpi_index", name="ada/packages", title="Packages")["changed"]
