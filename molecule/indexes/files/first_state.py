# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps after the deployment: upload private releases, publish public ones, and record what must remain in all later states."""

from __future__ import annotations

import json

from harness import publish_upstream, send
from index_state import (
    DELTA,
    DELTA_FILE,
    PASSWORDS,
    PRIVATE_RELEASES,
    RECORD,
    YOUNG,
    mirror,
    private_files,
    releases,
    uploader,
    users_and_indexes,
)


def test_upload_and_publish_releases() -> None:
    for version in DELTA:
        send(8099, f"/+other/delta/{version}", "POST")
    for index, user, project, version in PRIVATE_RELEASES:
        publish_upstream(project, "99.0")
        # Clients had the public releases before there was a private one.
        releases(index, project)
        uploader(user, index).upload(project, version)


def test_cache_public_releases() -> None:
    (beta,) = releases("root/pypi", "beta").values()
    (old,) = releases("root/strict", "delta").values()
    for path in (beta, old, releases("root/other", "delta")[DELTA_FILE.format(YOUNG)]):
        assert mirror.ask(path).status == mirror.ask(f"{path}.metadata").status == 200


def test_record() -> None:
    rights = {"allowed": ["upload"], "indexes": ["acme/dev"]}
    token = mirror.call("POST", "/bot/+token-create", rights, mirror.log_in("root", PASSWORDS["root"]).auth)["token"]
    RECORD.write_text(json.dumps({**users_and_indexes(), "files": private_files(), "token": token}))
