# SPDX-License-Identifier: GPL-3.0-or-later
"""Responses to clients, through nginx, if the upstream denies a page or a file, or if a wheel's metadata can't be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import installers
import pytest
from harness import JSON, Mirror, publish_upstream, set_upstream_mode, until
from upstream_status import set_status

mirror = Mirror()
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 410: "Gone", 429: "Too Many Requests"}
# pip prints the status of a page only if it is verbose, and the first error only without retries.
pip = partial(installers.dry_run_pip, "--retries=0", "-vv")
uv = installers.dry_run_uv
INSTALLERS = installers.each_installer(pip, uv)


@pytest.fixture(params=["root/pypi", "alice/private"])
def index(request: pytest.FixtureRequest) -> str:
    """The path of the public index, or of a private one that has it as its base."""
    mirror.create_user("alice")
    return f"/{request.param}/+simple/"


@pytest.mark.parametrize("status", REASONS)
def test_clients_get_the_upstreams_status_of_a_page(status: int, index: str) -> None:
    name = f"page{status}{index.split('/')[1]}"
    publish_upstream(name, "1.0")
    set_status("page", name, status)
    reason = f"{status} {REASONS[status]}"
    for accept in (JSON, "text/html"):
        answer = mirror.ask(f"{index}{name}/", Accept=accept)
        assert (answer.status, answer.headers.get("retry-after")) == (status, "7"), answer
        assert f"the upstream responded with status {reason}" in answer.text
    assert f"{status} Client Error: {REASONS[status]}" in pip(name, index=index)
    output = uv(name, index=index)
    assert f"{name} was not found in the package registry" in output if status == 404 else reason in output, output


@INSTALLERS
@pytest.mark.parametrize("status", [401, 403, 429])
def test_clients_get_the_upstreams_status_of_a_file(status: int, install: Callable[[str], str], separator: str) -> None:
    name = f"file{status}{'pip' if install is pip else 'uv'}"
    publish_upstream(name, "1.0")
    set_status("files", name, status)
    (file,) = mirror.files(name).values()
    for suffix in ("", ".metadata"):
        answer = mirror.ask(file["path"] + suffix)
        assert (answer.status, answer.headers.get("retry-after")) == (status, "7"), answer
        assert f"the upstream responded with status {status} {REASONS[status]}" in answer.text
    output = install(name)
    assert str(status) in output
    assert file["filename"] in output

    set_status("files", name, 200)
    until(lambda: f"{name}{separator}1.0" in install(name), "the file is not served")


@INSTALLERS
@pytest.mark.parametrize("prefix", ["bulk", "apart"])
def test_a_connection_that_drops_during_metadata_is_reported(
    prefix: str, install: Callable[[str], str], separator: str
) -> None:
    """The metadata is read from the end of a wheel, or is a separate file."""
    name = f"{prefix}{951 if install is pip else 952}"
    (file,) = mirror.files(name).values()
    set_upstream_mode("broken")
    answer = mirror.ask(file["path"] + ".metadata")
    assert (answer.status, answer.headers["retry-after"]) == (503, "10"), answer
    assert f"{name}-1.0" in answer.text
    output = install(name)
    assert "503" in output
    assert f"{file['filename']}.metadata" in output

    set_upstream_mode("normal")
    until(lambda: f"{name}{separator}1.0" in install(name), "the metadata is not served")


@pytest.mark.parametrize("install", [pip, uv], ids=["pip", "uv"])
def test_a_wheel_that_is_no_zip_archive_is_reported(install: Callable[[str], str]) -> None:
    name = f"garbled{951 if install is pip else 952}"
    (file,) = mirror.files(name).values()
    answer = mirror.ask(file["path"] + ".metadata")
    assert answer.status == 404
    assert "is no zip archive" in answer.text
    output = install(name)
    assert "404" in output
    assert f"{file['filename']}.metadata" in output


@INSTALLERS
def test_a_wheel_is_installed_from_an_upstream_that_ignores_ranges(
    install: Callable[[str], str], separator: str
) -> None:
    name = f"whole{951 if install is pip else 952}"
    assert f"{name}{separator}1.0" in install(name)
