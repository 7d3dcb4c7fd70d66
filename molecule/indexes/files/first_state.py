# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps after the deployment: upload private releases, publish public ones, and record what must remain in all later states."""

from __future__ import annotations

import json

from harness import publish_upstream, send
from index_state import PRIVATE_RELEASES, RECORD, private_files, releases, uploader, users_and_indexes


def test_upload_and_publish_releases() -> None:
    send(8099, "/+other/delta/7.0", "POST")
    for index, user, project, version in PRIVATE_RELEASES:
        publish_upstream(project, "99.0")
        # Clients had the public releases before there was a private one.
        releases(index, project)
        uploader(user, index).upload(project, version)


def test_record() -> None:
    RECORD.write_text(json.dumps({**users_and_indexes(), "files": private_files()}))
