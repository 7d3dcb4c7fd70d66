# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the mirror and its environment, while clients continuously install from it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from harness import (
    LOST,
    ON_HOST,
    RECOVERY_LIMIT,
    UPSTREAM_ADDRESS,
    UPSTREAM_PORT,
    Answer,
    Mirror,
    await_upstream,
    boot,
    connect,
    cut_power,
    on_host,
    set_upstream_mode,
    until,
    upstream_requests,
)

mirror = Mirror()
# Names of projects that neither this nor an earlier run has cached. The clients on the host use low numbers.
unseen = (f"new{number}" for number in count(int(time.time())))
bulky = (f"bulk{number}" for number in count(int(time.time())))


def unseen_name() -> str:
    return next(unseen)


def run_clients(kind: str) -> None:
    on_host(
        f"systemd-run --quiet --unit clients-{kind} --uid ada --setenv HOME=/home/ada /usr/local/bin/clients {kind}"
    )


def outcomes(kind: str) -> list[str]:
    return on_host(f"cat /home/ada/{kind}.log 2>/dev/null || true").splitlines()


def is_downloadable(name: str) -> bool:
    """Return whether a project's file can be downloaded and has its hash."""
    try:
        (file,) = mirror.files(name).values()
        return contains(mirror.ask(file["path"]), file)
    except (*LOST, ValueError):
        return False


def contains(answer: Answer, file: dict[str, Any]) -> bool:
    """Return whether a response contains a file with its hash."""
    return answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]


@pytest.fixture(scope="module", autouse=True)
def clients() -> Iterator[None]:
    """Run clients on the host continuously. Those that download cached files must never fail."""
    for name in ("alpha", "beta", "large"):
        assert is_downloadable(name)
    for kind in ("cached", "new"):
        run_clients(kind)
    yield
    on_host("systemctl stop 'clients-*'")


@pytest.fixture(autouse=True)
def recovery() -> Iterator[None]:
    """Make the upstream work before and after each test. Then the mirror must recover, and no client may have failed."""
    set_upstream_mode("normal")
    before = len(outcomes("cached"))
    yield
    set_upstream_mode("normal")
    until(lambda: mirror.is_serving("/+api"), "devpi does not recover", RECOVERY_LIMIT)
    until(partial(is_downloadable, unseen_name()), "new files can not be downloaded", RECOVERY_LIMIT)
    done = len(outcomes("cached"))
    until(lambda: len(outcomes("cached")) > done + 3, "the clients on the host have stopped", RECOVERY_LIMIT)
    assert [line for line in outcomes("cached")[before:] if line != "good"] == []


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("pkill -9 -f '[d]evpi_mirror.server'", id="devpi-server killed"),
        pytest.param("pkill -STOP -f '[d]evpi_mirror.server'", id="devpi-server hung"),
        pytest.param("pkill -9 -o nginx", id="nginx killed"),
        pytest.param("docker kill devpi", id="container killed"),
        pytest.param("systemctl restart docker", id="Docker daemon restarted"),
    ],
)
def test_servers_die(command: str) -> None:
    on_host(command)


def test_memory_runs_out() -> None:
    """The kernel kills devpi-server when a process in the container uses up its memory limit."""
    on_host("echo 1000 >/proc/$(pgrep -f '[d]evpi_mirror.server')/oom_score_adj")
    before = on_host("pgrep -f '[d]evpi_mirror.server'")
    hog = "x = bytearray(1)\nwhile len(x) < 760 << 20: x += b'x' * (8 << 20)"
    subprocess.run([*ON_HOST, "docker", "exec", "devpi", "python3", "-c", hog], check=False)
    until(
        lambda: on_host("pgrep -f '[d]evpi_mirror.server' || true") not in ("", before),
        "devpi-server was not killed",
        RECOVERY_LIMIT,
    )


class TestUpstream:
    """While the upstream fails, clients receive cached files, and no incomplete file is cached."""

    @pytest.mark.parametrize("mode", ["failing", "hang", "reset", "slow", "truncated", "broken", "wrong"])
    def test_it_is(self, mode: str) -> None:
        name = next(bulky)
        (file,) = mirror.files(name).values()
        set_upstream_mode(mode)
        answers: list[Answer | Exception] = []

        def fetch() -> None:
            try:
                answers.append(mirror.ask(file["path"], limit=30))
            except LOST as exc:
                answers.append(exc)

        client = threading.Thread(target=fetch)
        client.start()
        at_upstream = f"/files/{name}/1.0/py3-none-any/{name}-1.0-py3-none-any.whl"
        until(lambda: at_upstream in upstream_requests(), "the new file is not requested from the upstream")
        assert is_downloadable("alpha")
        if mode in ("hang", "slow"):
            # The client that requested the cached file did not wait for the upstream. The other one still does.
            assert not answers
        if mode != "slow":
            client.join(40)
            (answer,) = answers
            assert isinstance(answer, Exception) or not contains(answer, file)
            if isinstance(answer, Answer) and mode in ("failing", "hang", "reset"):
                assert answer.status in (502, 503, 504)
        set_upstream_mode("normal")
        until(lambda: is_downloadable(name), f"{name} can not be downloaded")
        client.join(40)

    def test_it_refuses(self) -> None:
        name = next(bulky)
        (file,) = mirror.files(name).values()
        on_host("systemctl stop upstream")
        try:
            assert mirror.ask(file["path"]).status in (502, 503, 504)
            assert is_downloadable("alpha")
            upstream = mirror.state()["upstream"]
            assert not upstream["reachable"]
            assert "refused" in upstream["error"]
        finally:
            on_host("systemctl start upstream")
            await_upstream()
        until(lambda: is_downloadable(name), f"{name} can not be downloaded")

    def test_its_certificate_is_untrusted(self) -> None:
        root = mirror.log_in_root()
        url = mirror.call("GET", "/root/pypi?no_projects=", None, root.auth)["mirror_url"]
        untrusted = f"https://{UPSTREAM_ADDRESS}:{UPSTREAM_PORT + 1}/simple/"
        (alpha,) = mirror.files("alpha").values()
        mirror.call("PATCH", "/root/pypi", [f"mirror_url={untrusted}"], root.auth)
        try:
            assert mirror.page(next(unseen)).status == 503
            # Pages of the previous upstream are not served. Links to files have their hashes.
            assert contains(mirror.ask(alpha["path"]), alpha)
            assert "certificate verify failed" in mirror.state()["upstream"]["error"]
        finally:
            mirror.call("PATCH", "/root/pypi", [f"mirror_url={url}"], root.auth)


class TestDisk:
    def test_a_damaged_file_is_replaced_after_its_first_download(self) -> None:
        name = next(unseen)
        assert is_downloadable(name)
        (file,) = mirror.files(name).values()
        stored = "/data/server/+files" + file["path"].replace("/-f/", "/+f/")
        damage(stored)
        # This response is wrong, unless nginx still has the intact file open or the mirror has checked it after its first use.
        is_downloadable(name)
        until(
            lambda: name in mirror.run("ls /data/damaged 2>/dev/null || true"),
            "the damage is not detected",
            RECOVERY_LIMIT,
        )
        until(lambda: is_downloadable(name), "the file stays damaged", RECOVERY_LIMIT)
        assert f"DAMAGED: {stored.split('+files/')[1]}" in mirror.log()


def damage(path: str) -> None:
    """Change one byte of a file of the mirror."""
    mirror.run(f"printf X | dd of='{path}' bs=1 seek=40 conv=notrunc 2>/dev/null")


def test_power_is_cut_in_the_middle_of_downloads() -> None:
    set_upstream_mode("slow")
    name = next(bulky)
    (file,) = mirror.files(name).values()
    connection = connect(mirror.port, limit=30)
    connection.request("GET", file["path"])
    response = connection.getresponse()
    assert response.read(1)
    cut_power()
    connection.close()
    boot()
    until(lambda: mirror.is_serving("/+api"), "the mirror does not recover", RECOVERY_LIMIT)
    for kind in ("cached", "new"):
        run_clients(kind)
    until(partial(is_downloadable, name), f"{name} can not be downloaded", RECOVERY_LIMIT)


def fsck() -> str:
    output = mirror.run("/opt/devpi/bin/devpi-fsck --serverdir /data/server 2>&1")
    assert "Finished with a total of" in output
    return output


def test_all_files_are_intact_afterwards() -> None:
    on_host("systemctl stop clients-new")
    mirror.maintain()
    # A mirrored file that a killed server has not stored is downloaded again when a client requests it.
    for path in re.findall(r"Missing file (\S+)", fsck()):
        assert mirror.ask(f"/{path}").status == 200
    assert not re.search("mismatch|Missing", fsck())
    got = on_host("cd /home/ada/new && sha256sum *").split("\n")
    digests = {name: digest for digest, name in (line.split() for line in got if line)}
    assert digests
    for name, digest in list(digests.items())[-20:]:
        (file,) = mirror.files(name.split("-")[0]).values()
        assert file["hashes"]["sha256"] == digest
