# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a package policy hides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from devpi_mirror.policy import DEFAULTS, HiddenError, PolicyError, Requirement, policy_of, version_of

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def wheel(name: str, version: str, **fields: object) -> dict[str, object]:
    return {"filename": f"{name}-{version}-py3-none-any.whl", "upload-time": "2026-01-01T00:00:00Z", **fields}


def hidden(policy: dict[str, object], file: dict[str, object], project: str = "alpha") -> str | None:
    reason = policy_of(policy).hides(project, file, NOW)
    return None if reason is None else str(reason)


@pytest.mark.parametrize(
    ("filename", "project", "version"),
    [
        ("alpha-1.0-py3-none-any.whl", "alpha", "1.0"),
        ("alpha-1.0-2-py3-none-any.whl", "alpha", "1.0"),
        ("Alpha_Beta-1.0.tar.gz", "alpha-beta", "1.0"),
        ("alpha-beta-1.0.tar.gz", "alpha-beta", "1.0"),
        ("alpha-2-1.0.zip", "alpha-2", "1.0"),
        ("alpha-1.0-1.tar.bz2", "alpha", "1.0.post1"),
        ("alpha-1.0-py2.7.egg", "alpha", "1.0"),
        ("alpha-1.0.win32-py2.7.exe", "alpha", "1.0"),
        ("alpha-1.0.linux-x86_64.tar.gz", "alpha", "1.0"),
        ("alpha-2004d.tar.gz", "alpha", None),
        ("beta-1.0.tar.gz", "alpha", None),
        ("alpha.whl", "alpha", None),
    ],
)
def test_the_version_in_a_file_name(filename, project, version):
    found = version_of(filename, project)
    assert (found and str(found)) == version


@pytest.mark.parametrize(
    ("requirement", "project", "version", "is_named"),
    [
        ("alpha", "alpha", "1.0", True),
        ("Alpha.Beta", "alpha-beta", "1.0", True),
        ("alpha", "alphabet", "1.0", False),
        ("alpha-*", "alpha-beta", "1.0", True),
        ("alpha-*", "alpha", "1.0", False),
        ("*", "alpha", "1.0", True),
        ("alpha==1.82.7", "alpha", "1.82.7", True),
        ("alpha == 1.82.7", "alpha", "1.82.8", False),
        ("alpha>=2,<3", "alpha", "2.5rc1", True),
        ("alpha>=2,<3", "alpha", "3.0", False),
        ("a*a==1.*", "alpha", "1.7", True),
    ],
)
def test_what_a_requirement_names(requirement, project, version, is_named):
    file = wheel(project.replace("-", "_"), version)
    assert (hidden({"block": [requirement]}, file, project) is not None) == is_named
    assert (hidden({"allow": [requirement]}, file, project) is None) == is_named


@pytest.mark.parametrize(
    "text", ["", "-alpha", "alpha beta", "alpha==", "alpha>=one two", "alpha;python_version>'3'", "alpha[x]"]
)
def test_an_invalid_requirement_is_named(text):
    with pytest.raises(PolicyError, match=r"alpha|''"):
        Requirement(text)


def test_a_file_whose_version_is_unknown_is_hidden():
    file = wheel("alpha", "2004d")
    assert hidden({"block": ["alpha==1.0"]}, file) == "block: alpha==1.0"
    assert hidden({"allow": ["alpha==1.0"]}, file) is not None
    young = {**file, "upload-time": "2026-06-15T00:00:00Z"}
    assert hidden({"min_release_age": "7d", "min_release_age_exceptions": ["alpha>=1"]}, young) is not None


def test_block_wins_over_allow():
    assert hidden({"block": ["alpha==1.0"], "allow": ["alpha"]}, wheel("alpha", "1.0")) == "block: alpha==1.0"
    assert hidden({"block": ["alpha==1.0"], "allow": ["alpha"]}, wheel("alpha", "1.1")) is None


@pytest.mark.parametrize(("yanked", "is_hidden"), [(True, True), ("broken", True), (False, False), (None, False)])
def test_yanked_files_are_hidden_on_request(yanked, is_hidden):
    file = wheel("alpha", "1.0", yanked=yanked)
    assert (hidden({"hide_yanked": True}, file) == "hide_yanked") == is_hidden
    assert hidden({"block": ["beta"]}, file) is None


@pytest.mark.parametrize(
    ("uploaded", "rule"),
    [
        ("2026-06-08T12:00:00Z", None),
        ("2026-06-08T12:00:01.500000Z", "min_release_age: 7d, available at 2026-06-15T12:00:01Z"),
        # Without a time zone it is UTC; another one is converted.
        ("2026-06-15T00:00:00", "min_release_age: 7d, available at 2026-06-22T00:00:00Z"),
        ("2026-06-15T02:00:00+02:00", "min_release_age: 7d, available at 2026-06-22T00:00:00Z"),
        ("9999-12-31T00:00:00Z", "min_release_age: 7d"),
        ("9999-12-24T20:00:00-12:00", "min_release_age: 7d"),
        ("yesterday", "min_release_age: 7d, no upload time"),
        (None, "min_release_age: 7d, no upload time"),
    ],
)
def test_young_files_are_hidden(uploaded, rule):
    assert hidden({"min_release_age": "7d"}, wheel("alpha", "1.0", **{"upload-time": uploaded})) == rule


def test_a_young_file_can_be_an_exception():
    policy = {"min_release_age": "7d", "min_release_age_exceptions": ["alpha==1.1"]}
    young = {"upload-time": "2026-06-15T00:00:00Z"}
    assert hidden(policy, wheel("alpha", "1.1", **young)) is None
    assert hidden(policy, wheel("alpha", "1.2", **young)) is not None


def test_a_page_lists_neither_hidden_files_nor_versions_without_files():
    page = {
        "name": "alpha",
        "files": [
            wheel("alpha", "1.0"),
            wheel("alpha", "1.1"),
            {"filename": "alpha-1.1.tar.gz"},
            wheel("alpha", "2.0"),
        ],
        "versions": ["0.9", "1.0", "1.1", "2.0", "2.0.0"],
        "of-the-future": 1,
    }
    policy = policy_of({"block": ["alpha==2.0"], "min_release_age": "1d", "min_release_age_exceptions": ["alpha==1.1"]})
    found, reasons = policy.apply("alpha", page, NOW)
    assert [file["filename"] for file in found["files"]] == [
        "alpha-1.0-py3-none-any.whl", "alpha-1.1-py3-none-any.whl", "alpha-1.1.tar.gz",
    ]  # fmt: skip
    assert (found["versions"], found["of-the-future"]) == (["0.9", "1.0", "1.1"], 1)
    assert [reason.rule for reason in reasons] == ["block: alpha==2.0"]
    unchanged, none = policy_of({"block": ["beta"]}).apply("alpha", page, NOW)
    assert (unchanged, none) == (page, [])


@pytest.mark.parametrize(
    "settings",
    [{"min_release_age": "7w"}, {"min_release_age": "-1d"}, {"min_release_age": "9" * 20 + "d"}, {"block": [">1"]}],
)
def test_invalid_settings_are_an_error(settings):
    with pytest.raises(PolicyError):
        policy_of(settings)


def test_an_index_without_rules_has_no_policy():
    assert policy_of({}) is None
    assert policy_of({**DEFAULTS, "type": "mirror", "block": ()}) is None
    assert policy_of({"block": ["alpha"]}).tag != policy_of({"block": ["beta"]}).tag


def test_the_reason_fits_into_a_status_line():
    reason = policy_of({"block": ["alpha"]}).hides("alpha", wheel("alpha", "1.0"), NOW)
    error = HiddenError("älpha\n.whl", reason._replace(rule="block: ä\r\nX: y"))
    assert error.reason == "Hidden by block: ???X: y"
    assert (error.status, error.retry_after) == (403, "")


def test_an_age_is_counted_from_the_upload():
    policy = policy_of({"min_release_age": "36h"})
    assert policy.min_age == timedelta(hours=36)
