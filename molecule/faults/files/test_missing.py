# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror starts, makes backups and recovers, whichever file of its last transaction is missing."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import PUBLIC, RECOVERY_LIMIT, Mirror, User, on_host, set_upstream_mode, until

mirror = Mirror()
CHECK = (
    "docker run --rm --interactive --network none --read-only --tmpfs /tmp --cap-drop ALL --entrypoint /opt/devpi/bin/python "
    "$(docker inspect --format '{{.Config.Image}}' devpi) -m devpi_mirror.store check"
)
numbers = itertools.count(3001)


@pytest.fixture(scope="module")
def dave() -> User:
    set_upstream_mode("normal")
    return mirror.create_user("dave")


def download(_dave: User) -> str:
    """Download a mirrored file, and return its name."""
    name = f"new{next(numbers)}"
    (file,) = mirror.files(name).values()
    assert mirror.ask(file["path"]).status == 200
    return f"{name}-1.0-py3-none-any.whl"


def upload(dave: User) -> str:
    """Upload a file to a private index, and return its name."""
    name = f"own{next(numbers)}"
    dave.upload(name, "1.0")
    return f"{name}-1.0-py3-none-any.whl"


def upload_test_result(dave: User) -> str:
    """Upload a file and a test result for it, and return the name of the test result."""
    name = upload(dave)
    dave.upload_test_result(find(name).removeprefix("/data/server/+files"))
    return Path(find(f"{name}.toxresult*")).name


def find(name: str) -> str:
    path = mirror.run(f"find /data/server/+files -name '{name}'").strip()
    assert path, f"{name} does not exist"
    return path


def remove(path: str) -> None:
    mirror.run(f"rm '{path}'")


def truncate(path: str) -> None:
    """Leave an empty file, as a power cut can."""
    mirror.run(f": >'{path}'")


def quarantine(path: str) -> None:
    """Let the maintenance find a damaged file while it can't be downloaded again."""
    truncate(path)
    set_upstream_mode("failing")
    mirror.ask(path.removeprefix("/data/server/+files"))
    exists = f"if [ -e '{path}' ]; then echo yes; fi"
    until(lambda: not mirror.run(exists), "the damaged file is not quarantined", RECOVERY_LIMIT)


@pytest.fixture(autouse=True)
def upstream() -> Iterator[None]:
    yield
    set_upstream_mode("normal")


def restart() -> None:
    on_host("systemctl restart devpi")
    until(lambda: mirror.is_serving("/+api"), "devpi does not start", RECOVERY_LIMIT)


DAMAGES = (remove, truncate, quarantine)


@pytest.mark.parametrize(
    ("damages", "later"), [*(((damage,), None) for damage in DAMAGES), (DAMAGES, "user"), (DAMAGES, "page")]
)
def test_mirrored_files_can_be_missing(
    dave: User, damages: tuple[Callable[[str], None], ...], later: str | None
) -> None:
    names = [download(dave) for _damage in damages]
    if later == "user":
        mirror.create_user(f"user{next(numbers)}")
    elif later == "page":
        assert mirror.page(f"new{next(numbers)}").status == 200
    for name, damage in zip(names, damages, strict=True):
        damage(find(name))
    restart()
    on_host(f"docker exec --interactive devpi /opt/devpi/bin/python -m devpi_mirror.store backup | {CHECK}")
    set_upstream_mode("normal")
    for name in names:
        # The maintenance finds an empty file after its first use.
        until(partial(is_downloadable, name.partition("-")[0]), "the file is not downloaded again", RECOVERY_LIMIT)


def is_downloadable(project: str) -> bool:
    (file,) = mirror.files(project).values()
    answer = mirror.ask(file["path"])
    return answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]


@pytest.mark.parametrize("damage", [remove, truncate])
def test_the_database_is_compacted_although_the_last_file_is_missing(dave: User, damage: Callable[[str], None]) -> None:
    damage(find(download(dave)))
    mirror.run("/opt/devpi/bin/python -m devpi_mirror.store compact")
    assert mirror.page(f"new{next(numbers)}").status == 200


@pytest.mark.parametrize("damage", [remove, truncate])
@pytest.mark.parametrize("write", [upload, upload_test_result])
def test_a_private_file_can_be_missing(dave: User, write: Callable[[User], str], damage: Callable[[str], None]) -> None:
    name = write(dave)
    damage(find(name))
    restart()
    assert mirror.ask(f"{PUBLIC}alpha/").status == 200
    # If the file is missing, the start has requested a scrub, though none is scheduled.
    mirror.maintain(SCRUB_EVERY="" if damage is remove else "1s")
    until(lambda: [text for text in mirror.state()["problems"] if name in text], "the file is not reported")
    dave.delete(name.partition("-")[0], "1.0")
