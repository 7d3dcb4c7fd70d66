# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of the scenario, each selected by its name: upload files to a private index, change them, and find them unchanged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urljoin

import pytest
from harness import JSON, Mirror, User

# The token from the first step, which must remain valid.
TOKEN = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "token"
UPLOADS = {"ours": ["1.0", "2.0"], "alpha": ["9.0"], "expanding": ["1.0"]}
# Megabytes of core metadata, which devpi would read when it imports the file.
PADDING = {"expanding": 1500}
mirror = Mirror()


def alice() -> User:
    return User(mirror, "alice", TOKEN.read_text())


def list_files(name: str) -> dict[str, str]:
    """Return the path of each file of a project in the private index."""
    page = f"/alice/private/+simple/{name}/"
    files = json.loads(mirror.ask(page, Accept=JSON).text)["files"]
    return {file["filename"]: urljoin(page, file["url"]) for file in files}


def test_upload() -> None:
    user = mirror.create_user("alice")
    TOKEN.write_text(user.auth)
    for name, versions in UPLOADS.items():
        for version in versions:
            user.upload(name, version, PADDING.get(name, 0))
    if "guest" not in mirror.call("GET", "/", None):
        # A user who can't log in.
        mirror.call("PUT", "/guest", {"password": None}, mirror.log_in_root().auth)


def test_replace_a_release() -> None:
    alice().delete("ours", "1.0")
    alice().upload("ours", "3.0")


def test_find_uploads() -> None:
    assert set(list_files("ours")) == {"ours-1.0-py3-none-any.whl", "ours-2.0-py3-none-any.whl"}
    for name in UPLOADS:
        for path in list_files(name).values():
            assert mirror.ask(path).status == 200
    with pytest.raises(AssertionError, match=r"/\+login: 401"):
        mirror.log_in("guest", "")


def test_change_something() -> None:
    alice().upload("passing", "1.0")
    alice().delete("passing", "1.0")
