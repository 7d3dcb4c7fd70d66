# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients receive from a data directory of an earlier release of the collection, which had cached alpha and beta."""

from __future__ import annotations

import json
from urllib.parse import urljoin

from harness import JSON, Mirror, upstream_requests

mirror = Mirror()


def test_cached_files_are_not_downloaded_again() -> None:
    for name in ("alpha", "beta"):
        (file,) = mirror.files(name).values()
        for folder in ("/-f/", "/+f/"):
            answer = mirror.ask(file["path"].replace("/-f/", folder))
            assert (answer.status, answer.headers["x-cached"]) == (200, "HIT")
    assert not [path for path in upstream_requests() if path.startswith("/files/") and path.endswith(".whl")]


def test_private_files_are_served() -> None:
    page = "/alice/private/+simple/ours/"
    (file,) = json.loads(mirror.ask(page, Accept=JSON).text)["files"]
    assert mirror.ask(urljoin(page, file["url"])).status == 200


def test_pages_have_the_fields_of_the_upstream() -> None:
    (file,) = mirror.files("alpha").values()
    assert file["upload-time"] == "2020-06-01T00:00:00Z"
    inherited = json.loads(mirror.ask("/alice/private/+simple/alpha/", Accept=JSON).text)
    assert [file["upload-time"] for file in inherited["files"]] == ["2020-06-01T00:00:00Z"]


def test_all_files_are_intact() -> None:
    mirror.maintain(SCRUB_EVERY="1s")
    state = mirror.state()
    assert (state["scrub"]["damaged"], state["scrub"]["lost"], state["scrub"]["error"]) == (0, [], "")
    assert state["problems"] == []
