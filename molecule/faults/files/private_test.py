"""What is only in a private index, in steps: it is uploaded, some of it is lost, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urljoin

from conversation import JSON, Person, ask

# Who is logged in since the first step.
LOG_IN = Path("/tmp/devpi-mirror-test-log-in")
NAMES = {"ours": ["1.0", "2.0"], "alpha": ["9.0"]}


def alice() -> Person:
    person = Person.__new__(Person)
    person.name, person.index, person.auth = "alice", "/alice/private/", LOG_IN.read_text()
    return person


def listed(name: str) -> dict[str, str]:
    page = f"/alice/private/+simple/{name}/"
    found = json.loads(ask(page, Accept=JSON).text)["files"]
    return {file["filename"]: urljoin(page, file["url"]) for file in found}


def test_upload() -> None:
    person = Person.with_private_index("alice")
    LOG_IN.write_text(person.auth)
    for name, versions in NAMES.items():
        for version in versions:
            person.upload(name, version)


def test_lose_one_and_have_another() -> None:
    person = alice()
    assert ask("/alice/private/ours/1.0", "DELETE", X_Devpi_Auth=person.auth).status == 200
    person.upload("ours", "3.0")


def test_found_again() -> None:
    person = alice()
    assert set(listed("ours")) == {"ours-1.0-py3-none-any.whl", "ours-2.0-py3-none-any.whl"}
    for name in NAMES:
        for path in listed(name).values():
            assert ask(path).status == 200
    # The token is one of before.
    person.upload("ours", "4.0")
    assert ask("/alice/private/ours/4.0", "DELETE", X_Devpi_Auth=person.auth).status == 200


def test_change_something() -> None:
    person = alice()
    person.upload("passing", "1.0")
    assert ask("/alice/private/passing/1.0", "DELETE", X_Devpi_Auth=person.auth).status == 200
