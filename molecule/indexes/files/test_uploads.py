# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools upload releases with a token that is valid for one index and for some projects, and nothing prints the token."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import JSON, Mirror, address, on_host
from plays import Outcome, succeed

PLAY = str(Path(__file__).parent / "token.yml")
BIN = Path(os.environ["DEVPI_MIRROR_TEST_CACHE"]).parent / ".venv" / "uploads" / "bin"
# The command of each tool, and the names of the variables with the index's URL, the user and the token.
TOOLS = {
    "twine": (
        "twine upload --non-interactive dist/*", "TWINE_REPOSITORY_URL", "TWINE_USERNAME", "TWINE_PASSWORD",
    ),
    "uv": (
        "uv publish", "UV_PUBLISH_URL", "UV_PUBLISH_USERNAME", "UV_PUBLISH_PASSWORD",
    ),
    "poetry": (
        "poetry publish --repository acme", "POETRY_REPOSITORIES_ACME_URL", "POETRY_HTTP_BASIC_ACME_USERNAME",
        "POETRY_HTTP_BASIC_ACME_PASSWORD",
    ),
    "flit": (
        "flit publish", "FLIT_INDEX_URL", "FLIT_USERNAME", "FLIT_PASSWORD",
    ),
}  # fmt: skip
# Not a project of the upstream.
PROJECTS = [f"released-with-{tool}" for tool in TOOLS]
PROJECT_FILE = """\
[build-system]
requires = ["flit_core"]
build-backend = "flit_core.buildapi"
[project]
name = "{name}"
version = "1.0"
description = "A project of the tests"
"""
mirror = Mirror()


@dataclass(frozen=True)
class Created:
    """A token, the play that created it, and the command lines of all processes meanwhile."""

    token: str
    outcome: Outcome
    command_lines: set[str]


@contextmanager
def recorded_command_lines() -> Iterator[set[str]]:
    """Collect the command lines of this machine's processes, which include those of the test host."""
    found: set[str] = set()
    is_done = threading.Event()

    def record() -> None:
        while not is_done.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                # The process has ended.
                with suppress(OSError):
                    found.add(path.read_text(errors="replace").replace("\0", " "))

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield found
    finally:
        is_done.set()
        thread.join()


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Created:
    file = tmp_path_factory.mktemp("token") / "token"
    variables = {"projects": PROJECTS, "token_file": str(file)}
    with recorded_command_lines() as command_lines:
        outcome = succeed(PLAY, "-vvv", "--diff", variables=variables)
    return Created(file.read_text(), outcome, command_lines)


def run_tool(tool: str, index: str, token: str, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Build a release of the project with this name, and upload it."""
    command, url, username, password = TOOLS[tool]
    module = folder / f"{name.replace('-', '_')}.py"
    module.write_text('"""A module of the tests."""\n')
    (folder / "pyproject.toml").write_text(PROJECT_FILE.format(name=name))
    # Neither settings nor a keyring of the user who runs the tests, and no proxy.
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
    subprocess.run(["flit", "build"], cwd=folder, env=env, executable=BIN / "flit", check=True, capture_output=True)
    env |= {url: f"http://{address()}:{mirror.port}/{index}/", username: "bot", password: token}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def listing(index: str, name: str) -> str:
    """Return the page of a project, empty if the index does not have it."""
    answer = mirror.ask(f"/{index}/+simple/{name}/", Accept=JSON)
    return answer.text if answer.status == 200 else ""


def test_the_play_does_not_print_the_token(created: Created) -> None:
    assert created.token.startswith("devpi-")
    assert created.token not in created.outcome.output
    assert any(PLAY in line for line in created.command_lines)
    assert not [line for line in created.command_lines if created.token in line]


def test_a_second_run_changes_nothing(created: Created, tmp_path: Path) -> None:
    outcome = succeed(PLAY, variables={"projects": PROJECTS, "token_file": str(tmp_path / "token")})
    assert outcome.changed == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tool", TOOLS)
def test_a_token_uploads_releases(created: Created, tool: str, tmp_path: Path) -> None:
    name = f"released-with-{tool}"
    with recorded_command_lines() as command_lines:
        done = run_tool(tool, "acme/dev", created.token, tmp_path, name)
    assert done.returncode == 0, done.stdout
    page = listing("acme/dev", name)
    for suffix in ("-1.0-py2.py3-none-any.whl", "-1.0.tar.gz"):
        assert f"{name.replace('-', '_')}{suffix}" in page
    assert created.token not in done.stdout
    # A process that ends soon is not always seen.
    assert not [line for line in command_lines if created.token in line]


# Without the token, bot may upload to both indexes.
@pytest.mark.parametrize(
    ("index", "name"),
    [("acme/dev", "refused-of-{}"), ("acme/stable", "released-with-{}")],
    ids=["another project", "another index"],
)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_token_is_refused(created: Created, tool: str, index: str, name: str, tmp_path: Path) -> None:
    project = name.format(tool)
    done = run_tool(tool, index, created.token, tmp_path, project)
    assert done.returncode != 0, done.stdout
    assert "403" in done.stdout
    assert listing(index, project) == ""


def test_clients_install_the_releases() -> None:
    modules = ", ".join(name.replace("-", "_") for name in PROJECTS)
    on_host(
        "runuser -u ada -- env HOME=/home/ada sh -ec 'cd $(mktemp -d); python3 -m venv venv;"
        f" venv/bin/pip --disable-pip-version-check install --no-cache-dir --only-binary :all: {' '.join(PROJECTS)} >&2;"
        f' venv/bin/python -c "import {modules}"\''
    )


def login_status(name: str, token: str) -> int:
    credentials = base64.b64encode(f"{name}:{token}".encode()).decode()
    return mirror.ask("/+api", Accept="application/json", Authorization=f"Basic {credentials}").status


def test_a_token_is_refused_for_another_user(created: Created) -> None:
    assert [login_status(name, created.token) for name in ("bot", "carol", "__token__")] == [200, 403, 403]


def test_a_deleted_token_is_refused(created: Created) -> None:
    root = mirror.log_in("root", "secret-of-root")
    for name in mirror.call("GET", "/bot/+tokens", None, root.auth)["tokens"]:
        mirror.call("DELETE", f"/bot/+tokens/{name}", None, root.auth)
    assert login_status("bot", created.token) == 403


def test_no_log_contains_the_token(created: Created) -> None:
    assert created.token not in mirror.log()
    assert created.token not in on_host("journalctl --no-pager")
