# SPDX-License-Identifier: GPL-3.0-or-later
"""The users, indexes and releases of the scenario, as clients find them in any state of the mirror."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import yaml
from harness import JSON, Mirror, User
from plays import run_as_json

PASSWORDS = {name: f"secret-of-{name}" for name in ("root", "bot", "carol")}
# The private releases: index, user, project and version. The upstream has newer releases of all projects with these names.
PRIVATE_RELEASES = [("acme/stable", "bot", "alpha", "0.5"), ("acme/dev", "carol", "gamma", "0.5")]
# The versions of the project delta in the second mirror's index. The upstream says that the last one is from June of this year.
YOUNG = f"{datetime.now(timezone.utc).year - 2019}.0"
DELTA = ("1.0", "1.1", YOUNG)
DELTA_FILE = "delta-{}-py3-none-any.whl"
MOLECULE = yaml.safe_load((Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "molecule.yml").read_text())
# The indexes of the scenario, as in devpi_server_indexes, by name.
INDEXES = {
    index["name"]: index for index in MOLECULE["provisioner"]["inventory"]["group_vars"]["all"]["devpi_server_indexes"]
}
LIST_INDEXES = Path(__file__).with_name("list_indexes.yml")
# What later states are compared with.
RECORD = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "index_state.json"
mirror = Mirror()


def uploader(name: str, index: str) -> User:
    user = mirror.log_in(name, PASSWORDS[name])
    user.index = f"/{index}/"
    return user


def releases(index: str, project: str) -> dict[str, str]:
    """Return the path of each file of a project, by name."""
    page = f"/{index}/+simple/{project}/"
    answer = mirror.ask(page, Accept=JSON)
    assert answer.status == 200, answer
    return {file["filename"]: urljoin(page, file["url"]) for file in json.loads(answer.text)["files"]}


def serial() -> str:
    return mirror.ask("/+api").headers["x-devpi-serial"]


def private_files() -> dict[str, str]:
    """Download all private releases, and return their hashes by path."""
    hashes = {}
    for index, _user, project, _version in PRIVATE_RELEASES:
        for path in releases(index, project).values():
            answer = mirror.ask(path)
            assert answer.status == 200, answer
            hashes[path] = hashlib.sha256(answer.body).hexdigest()
    return hashes


def users_and_indexes() -> dict[str, Any]:
    """Return the settings of all users and indexes by name, with the names of settings that modules use."""
    report = run_as_json(str(LIST_INDEXES))
    results = [next(iter(task["hosts"].values())) for task in report["plays"][0]["tasks"]]
    return {key: result[key] for result, key in zip(results, ("users", "indexes"))}
