# SPDX-License-Identifier: GPL-3.0-or-later
"""Responses to clients if the download of a file is interrupted, or if the upstream has deleted a file that its page lists."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import installers
import pytest
from harness import UPSTREAM_PORT, Mirror, publish_upstream, send, set_upstream_mode, until, upstream_requests
from upstream_status import set_status

mirror = Mirror()


def filename(name: str) -> str:
    """Return the file name of the wheel of a project with one release."""
    return f"{name}-1.0-py3-none-any.whl"


def upstream_path(name: str) -> str:
    return f"/files/{name}/1.0/py3-none-any/{filename(name)}"


def upstream_wheel(name: str) -> bytes:
    """Return a wheel of the upstream, with a request that differs from those that the tests count."""
    answer = send(UPSTREAM_PORT, upstream_path(name), Range="bytes=0-")
    assert answer.status == 206
    return answer.body


def curl(name: str, _folder: Path) -> bytes:
    """Return a file that curl downloads."""
    return mirror.ask(mirror.files(name)[filename(name)]["path"], User_Agent="curl/8.0").body


def pip(name: str, folder: Path) -> bytes:
    """Return a file that pip downloads. Raises AssertionError with the output of pip."""
    output = installers.pip("download", "--dest", str(folder), name)
    downloaded = folder / filename(name)
    if not downloaded.exists():
        raise AssertionError(output)
    return downloaded.read_bytes()


def uv(name: str, folder: Path) -> bytes:
    """Return a file that uv has installed. Raises AssertionError with the output of uv."""
    output = installers.uv("--no-deps", "--target", str(folder), name)
    if not (folder / f"{name}.py").exists():
        raise AssertionError(output)
    return curl(name, folder)


@pytest.mark.parametrize("mode", ["interrupted", "restarted"])
@pytest.mark.parametrize(("client", "number"), [(curl, 971), (pip, 973), (uv, 975)], ids=["curl", "pip", "uv"])
def test_an_interrupted_download_is_resumed(
    client: Callable[[str, Path], bytes], number: int, mode: str, tmp_path: Path
) -> None:
    """An upstream that ignores the Range header sends the whole file again, and the mirror skips the part that it has."""
    name = f"bulk{number + (mode == 'restarted')}"
    assert mirror.page(name).status == 200
    set_upstream_mode(mode)
    received = client(name, tmp_path)
    set_upstream_mode("normal")
    requests = [item for item in upstream_requests() if item.startswith(upstream_path(name))]
    # Without the requests for core metadata, which have the range of the end of the file.
    downloads = [item for item in requests if " bytes=-" not in item]
    assert len(downloads) == 2, requests
    assert downloads[0] == upstream_path(name)
    assert re.fullmatch(r"bytes=[1-9]\d*-", downloads[1].removeprefix(f"{upstream_path(name)} ")), requests
    assert received == upstream_wheel(name)
    file = mirror.files(name)[filename(name)]
    until(lambda: mirror.ask(file["path"], "HEAD").headers["x-cached"] == "HIT", "the file is not cached")


@pytest.mark.parametrize("index", ["bob/other", "bob/both"])
def test_a_second_mirror_index_serves_files(index: str, tmp_path: Path) -> None:
    root = mirror.log_in_root()
    mirror.create_user("bob")
    settings = mirror.call("GET", "/root/pypi", None, root.auth)
    other = {name: settings[name] for name in settings if name == "type" or name.endswith(("_url", "_project_list"))}
    bases = {"bases": ["root/pypi", "bob/other"], "volatile": True}
    existing = mirror.call("GET", "/", None, root.auth)["bob"]["indexes"]
    for name, wanted in (("other", other), ("both", bases)):
        if name not in existing:
            mirror.call("PUT", f"/bob/{name}", wanted, root.auth)
    name = f"second{index[4:]}"
    publish_upstream(name, "1.0")
    assert installers.pip("download", "--dest", str(tmp_path), name, index=f"/{index}/+simple/")
    assert (tmp_path / filename(name)).read_bytes() == upstream_wheel(name)


@pytest.mark.parametrize(
    ("mode", "number", "reason"), [("wrong", 981, "has the sha256 "), ("truncated", 982, "the upstream ")]
)
def test_a_part_that_can_not_be_sent_is_an_error_with_the_reason(mode: str, number: int, reason: str) -> None:
    """An installer that resumes a download requests such parts, and retries after this status."""
    name = f"bulk{number}"
    file = mirror.files(name)[filename(name)]
    wanted = f"bytes={file['size'] - 1}-"
    set_upstream_mode(mode)
    answer = mirror.ask(file["path"], Range=wanted)
    assert (answer.status, answer.headers["retry-after"]) == (503, "10"), answer
    assert reason in answer.text
    assert upstream_path(name) in answer.text
    assert stored(name) == ""

    set_upstream_mode("normal")
    until(lambda: mirror.ask(file["path"], Range=wanted).status == 206, "the file is not served again")


class TestDeleted:
    """A file that the upstream has deleted, while its page lists it."""

    @pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (410, "Gone")])
    def test_clients_get_the_status_and_the_reason(self, status: int, reason: str) -> None:
        name = f"deleted{status}"
        publish_upstream(name, "1.0")
        file = mirror.files(name)[filename(name)]
        set_status("files", name, status)
        for _attempt in range(2):
            for suffix in ("", ".metadata"):
                answer = mirror.ask(file["path"] + suffix)
                assert answer.status == status, answer
                assert f"the upstream responded with status {status} {reason}" in answer.text
                assert upstream_path(name) in answer.text
        # The page still lists the file, as at the upstream.
        assert filename(name) in mirror.files(name)
        assert stored(name) == ""

        set_status("files", name, 200)
        until(lambda: mirror.ask(file["path"]).status == 200, "the file is not served again")
        assert hashlib.sha256(mirror.ask(file["path"]).body).hexdigest() == file["hashes"]["sha256"]
        until(lambda: mirror.ask(file["path"] + ".metadata").status == 200, "its metadata is not served again")
        assert stored(name)

    @pytest.mark.parametrize("client", [pip, uv])
    def test_installers_report_the_file_and_install_it_later(
        self, client: Callable[[str, Path], bytes], tmp_path: Path
    ) -> None:
        name = f"deletedfor{client.__name__}"
        publish_upstream(name, "1.0")
        set_status("files", name, 404)
        with pytest.raises(AssertionError) as failed:
            client(name, tmp_path)
        # The status and the file are in one line, and the status is not a part of a path.
        assert re.search(rf"(?<![/\w])404(?!\w).*{filename(name)}", str(failed.value)), failed.value
        assert stored(name) == ""

        set_status("files", name, 200)
        file = mirror.files(name)[filename(name)]
        until(lambda: mirror.ask(file["path"] + ".metadata").status == 200, "its metadata is not served again")
        assert client(name, tmp_path) == upstream_wheel(name)


def stored(name: str) -> str:
    """Return the paths of the files that the mirror has stored of a project."""
    return mirror.run(f"find /data/server/+files -name '{name}-*'")
