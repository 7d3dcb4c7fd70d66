# SPDX-License-Identifier: GPL-3.0-or-later
"""The module devpi_index: each state of an index from each other state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Server, only, plain

# Package policies without rules.
NO_POLICIES: dict[str, Any] = {
    "min_release_age": "",
    "min_release_age_exceptions": [],
    "block": [],
    "allow": [],
    "hide_yanked": False,
}
# Settings that devpi does not return unless they were set, by the type of an index.
EMPTY: dict[str, dict[str, Any]] = {
    "private": {"title": "", "description": "", "custom_data": {}},
    "mirror": {
        "title": "",
        "mirror_no_project_list": False,
        "mirror_use_external_urls": False,
        "mirror_web_url_fmt": "",
        "mirror_cache_expiry": None,
        **NO_POLICIES,
    },
}
ABSENT: dict[str, Any] = {"state": "absent"}
# The settings of a new index, and different ones.
DEFAULTS: dict[str, Any] = {
    "volatile": True,
    "bases": [],
    "acl_upload": ["ada"],
    "acl_toxresult_upload": [":ANONYMOUS:"],
    "mirror_whitelist": [],
    "mirror_whitelist_inheritance": "intersection",
    **EMPTY["private"],
}
PRIVATE: dict[str, dict[str, Any]] = {
    "absent": ABSENT,
    "new": {},
    "defaults": DEFAULTS,
    "changed": {
        "type": "private",
        "volatile": False,
        "bases": ["ada/base", "root/pypi"],
        "acl_upload": [":ANONYMOUS:", "root"],
        "acl_toxresult_upload": [],
        "mirror_whitelist": ["*"],
        "mirror_whitelist_inheritance": "union",
        "title": "Packages",
        "description": "Packages of the team",
        "custom_data": {"team": ["ada"]},
    },
}
# mirror_url is a folder of the upstream.
MIRROR: dict[str, dict[str, Any]] = {
    "absent": ABSENT,
    "new": {"mirror_url": "simple/"},
    "changed": {
        "volatile": False,
        "mirror_url": "other/",
        "mirror_no_project_list": True,
        "mirror_use_external_urls": True,
        "mirror_web_url_fmt": "https://example.org/{name}/",
        "mirror_cache_expiry": 600,
        "title": "Another upstream",
    },
    "previous settings": {
        "volatile": True,
        "mirror_url": "simple/",
        "mirror_no_project_list": False,
        "mirror_use_external_urls": False,
        "mirror_web_url_fmt": "",
        "mirror_cache_expiry": 60,
        "title": "",
    },
    # All servers accept the empty policies of a new index, and of one without policies.
    "no policies": {"mirror_url": "simple/", **NO_POLICIES},
}
POLICIES: dict[str, dict[str, Any]] = {
    "policies": {
        "mirror_url": "simple/",
        "min_release_age": "7d",
        "min_release_age_exceptions": ["urllib3==2.5.1"],
        "block": ["evil-*", "litellm==1.82.7"],
        "allow": ["pip", "torch>=2,<3"],
        "hide_yanked": True,
    },
    "other policies": {
        "mirror_url": "other/",
        "min_release_age": "12h",
        "min_release_age_exceptions": ["urllib3", "torch==2.0"],
        "block": ["evil-*"],
        "allow": [],
        "hide_yanked": False,
    },
}
MIRROR_WITH_IMAGE = {**MIRROR, **POLICIES}


@pytest.fixture(autouse=True)
def removed_index(server: Server, ada: None) -> Iterator[None]:
    """Remove the index ada/dev after each test."""
    yield
    server.remove_index("ada/dev")


def without_empty_policies(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return settings without the empty policies that the image gives a new index, and that are not predicted."""
    if settings is None:
        return None
    return {name: value for name, value in settings.items() if name not in NO_POLICIES or value}


def check_change(server: Server, kind: str, before: dict[str, Any] | None, options: dict[str, Any]) -> None:
    """Change the index ada/dev, which has the settings ``before``, and check the results."""
    change = server.change("devpi_index", name="ada/dev", **options)
    new = {"type": kind, **(DEFAULTS if kind == "private" else {"volatile": True})}
    wanted = {**EMPTY[kind], **(new if before is None else before), **options}
    after = change.actual["settings"]
    if options.get("state") == "absent":
        assert after is None
        is_changed = before is not None
    else:
        assert {**EMPTY[kind], **after} == wanted
        is_changed = before is None or {**EMPTY[kind], **before} != wanted
    assert change.actual["changed"] == is_changed
    # A non-volatile index becomes volatile before it is removed.
    is_volatile = (before or {}).get("volatile", True)
    assert change.serials == (2 if is_changed and after is None and not is_volatile else is_changed)
    assert change.repeated["settings"] == after
    assert without_empty_policies(change.predicted["settings"]) == without_empty_policies(after)
    if not server.kind.has_image_plugin or before is not None:
        assert change.predicted["settings"] == after
    assert change.predicted["diff"] == change.actual["diff"]
    assert (change.actual["diff"]["before"] == change.actual["diff"]["after"]) == (not is_changed)
    assert change.repeated["diff"]["before"] == change.repeated["diff"]["after"] == change.actual["diff"]["after"]


@plain
@pytest.mark.parametrize("wanted", PRIVATE)
@pytest.mark.parametrize("initial", ["absent", "new", "changed"])
def test_each_state_of_a_private_index_from_each_other(server: Server, initial: str, wanted: str) -> None:
    before = server.apply("devpi_index", name="ada/dev", **PRIVATE[initial])["settings"]
    check_change(server, "private", before, PRIVATE[wanted])


def check_mirror(server: Server, upstream: str, initial: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Create a mirror index with the settings ``initial``, change it to ``wanted``, and check the results."""

    def options_of(state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "mirror_url": upstream + state["mirror_url"]} if state is not ABSENT else {}

    before = None
    if initial is not ABSENT:
        before = server.apply("devpi_index", name="ada/dev", type="mirror", **options_of(initial))["settings"]
    if wanted is ABSENT:
        options = {**ABSENT, "force": before is not None and not before["volatile"]}
    else:
        # An existing index has a type.
        options = {**({"type": "mirror"} if before is None else {}), **options_of(wanted)}
    check_change(server, "mirror", before, options)


@pytest.mark.parametrize("wanted", MIRROR)
@pytest.mark.parametrize("initial", ["absent", "new", "changed"])
def test_each_state_of_a_mirror_index_from_each_other(server: Server, upstream: str, initial: str, wanted: str) -> None:
    check_mirror(server, upstream, MIRROR[initial], MIRROR[wanted])


@only(has_image_plugin=True)
@pytest.mark.parametrize("wanted", MIRROR_WITH_IMAGE)
@pytest.mark.parametrize("initial", POLICIES)
def test_each_state_from_package_policies(server: Server, upstream: str, initial: str, wanted: str) -> None:
    check_mirror(server, upstream, POLICIES[initial], MIRROR_WITH_IMAGE[wanted])


@only(has_image_plugin=True)
@pytest.mark.parametrize("wanted", POLICIES)
@pytest.mark.parametrize("initial", ["absent", "new", "changed"])
def test_package_policies_from_each_other_state(server: Server, upstream: str, initial: str, wanted: str) -> None:
    check_mirror(server, upstream, MIRROR[initial], POLICIES[wanted])
