"""What goes wrong with a mirror and around it, while clients that never stop install from it."""

from __future__ import annotations

import hashlib
import http.client
import re
import subprocess
import threading
import time
from functools import partial
from itertools import count
from typing import Iterator

import pytest
from conversation import (
    BACK,
    ON_HOST,
    UPSTREAM,
    Answer,
    Person,
    ask,
    boot,
    call,
    cut_power,
    files,
    inside,
    mirror_state,
    on_host,
    page,
    reachable,
    tell_upstream,
    until,
)

# What nobody has had before, not in an earlier run either. The clients on the host take those with low numbers.
unseen = (f"new{number}" for number in count(int(time.time())))
bulky = (f"bulk{number}" for number in count(int(time.time())))
LOST = (OSError, http.client.HTTPException)


def unseen_name() -> str:
    return next(unseen)


def run_clients(kind: str) -> None:
    on_host(
        f"systemd-run --quiet --unit clients-{kind} --uid ada --setenv HOME=/home/ada /usr/local/bin/clients {kind}"
    )


def outcomes(kind: str) -> list[str]:
    return on_host(f"cat /home/ada/{kind}.log 2>/dev/null || true").splitlines()


def is_good(name: str) -> bool:
    """Tell whether the file of a project arrives, with its hash."""
    try:
        (file,) = files(name).values()
        return has(file, ask(file["path"]))
    except (*LOST, ValueError):
        return False


def has(file: dict, answer: Answer) -> bool:
    return answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == file["hashes"]["sha256"]


@pytest.fixture(scope="module", autouse=True)
def clients() -> Iterator[None]:
    """Have clients on the host that never stop, of which those that take what is cached never fail."""
    for name in ("alpha", "beta", "large"):
        assert is_good(name)
    for kind in ("cached", "new"):
        run_clients(kind)
    yield
    on_host("systemctl stop 'clients-*'")


@pytest.fixture(autouse=True)
def well() -> Iterator[None]:
    """Have the upstream well before and after, and see afterwards that all is well, and that no client has failed."""
    tell_upstream("+mode/well")
    before = len(outcomes("cached"))
    yield
    tell_upstream("+mode/well")
    until(lambda: reachable("/+api"), "devpi is not back", BACK)
    until(partial(is_good, unseen_name()), "what nobody has had can't be had", BACK)
    done = len(outcomes("cached"))
    until(lambda: len(outcomes("cached")) > done + 3, "the clients on the host have stopped", BACK)
    assert [line for line in outcomes("cached")[before:] if line != "good"] == []


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("pkill -9 -f '[e]tc/server.py'", id="devpi-server killed"),
        pytest.param("pkill -STOP -f '[e]tc/server.py'", id="devpi-server hung"),
        pytest.param("pkill -9 -o nginx", id="nginx killed"),
        pytest.param("docker kill devpi", id="container killed"),
        pytest.param("systemctl restart docker", id="engine restarted"),
    ],
)
def test_servers_die(command: str) -> None:
    on_host(command)


def test_memory_runs_out() -> None:
    """The kernel takes devpi-server, when something in the container takes all memory that there is for it."""
    on_host("echo 1000 >/proc/$(pgrep -f '[e]tc/server.py')/oom_score_adj")
    before = on_host("pgrep -f '[e]tc/server.py'")
    hog = "x = bytearray(1)\nwhile len(x) < 760 << 20: x += b'x' * (8 << 20)"
    subprocess.run([*ON_HOST, "docker", "exec", "devpi", "python3", "-c", hog], check=False)
    until(lambda: on_host("pgrep -f '[e]tc/server.py' || true") not in ("", before), "it was not taken", BACK)


class TestUpstream:
    """An upstream that is not well keeps nobody from what is cached, and nothing that is not whole is kept."""

    @pytest.mark.parametrize("mode", ["failing", "hang", "reset", "slow", "truncated", "broken", "wrong"])
    def test_it_is(self, mode: str) -> None:
        name = next(bulky)
        (file,) = files(name).values()
        tell_upstream(f"+mode/{mode}")
        answers: list[Answer | Exception] = []

        def fetch() -> None:
            try:
                answers.append(ask(file["path"], limit=30))
            except LOST as exc:
                answers.append(exc)

        client = threading.Thread(target=fetch)
        client.start()
        assert is_good("alpha")
        if mode in ("hang", "slow"):
            # It has not waited for the upstream, as who asks for the new file still does.
            assert not answers
        if mode != "slow":
            client.join(40)
            (answer,) = answers
            assert isinstance(answer, Exception) or not has(file, answer)
            if isinstance(answer, Answer) and mode in ("failing", "hang", "reset"):
                assert answer.status in (502, 503, 504)
        tell_upstream("+mode/well")
        until(lambda: is_good(name), f"{name} does not come")
        client.join(40)

    def test_it_refuses(self) -> None:
        name = next(bulky)
        (file,) = files(name).values()
        on_host("systemctl stop upstream")
        try:
            assert ask(file["path"]).status in (502, 503, 504)
            assert is_good("alpha")
            told = mirror_state()
            assert not told["upstream"]["reachable"]
            assert "refused" in told["upstream"]["error"]
        finally:
            on_host("systemctl start upstream")
            until(lambda: reachable("/+seen", UPSTREAM), "the upstream is not back")
        until(lambda: is_good(name), f"{name} does not come")

    def test_its_authority_is_unknown(self) -> None:
        root = Person("root", inside("cat /data/root-password"))
        url = call("GET", "/root/pypi?no_projects=", None, root.auth)["mirror_url"]
        host, _colon, port = UPSTREAM.partition(":")
        call("PATCH", "/root/pypi", [f"mirror_url=https://{host}:{int(port) + 1}/simple/"], root.auth)
        try:
            assert page(next(unseen)).status in (404, 502)
            assert is_good("alpha")
            assert "certificate verify failed" in mirror_state()["upstream"]["error"]
        finally:
            call("PATCH", "/root/pypi", [f"mirror_url={url}"], root.auth)


class TestDisk:
    def test_a_damaged_file_is_replaced_after_the_first_who_gets_it(self) -> None:
        name = next(unseen)
        assert is_good(name)
        (file,) = files(name).values()
        stored = "/data/server/+files" + file["path"].replace("/-f/", "/+f/")
        damage(stored)
        # Wrong, unless the mirror still has it from when it came, or has looked at it already, after its first use.
        is_good(name)
        until(lambda: name in inside("ls /data/damaged 2>/dev/null || true"), "it is not found", BACK)
        until(lambda: is_good(name), "it stays damaged", BACK)
        assert f"{stored.split('+files/')[1]} is damaged: it is fetched again" in on_host("docker logs devpi 2>&1")


def damage(path: str) -> None:
    """Change one byte of a file of the mirror."""
    inside(f"printf X | dd of='{path}' bs=1 seek=40 conv=notrunc 2>/dev/null")


def test_power_is_cut_in_the_middle_of_downloads() -> None:
    tell_upstream("+mode/slow")
    name = next(bulky)
    (file,) = files(name).values()

    def fetch() -> None:
        with pytest.raises(LOST):
            ask(file["path"])

    client = threading.Thread(target=fetch)
    client.start()
    time.sleep(2)
    cut_power()
    client.join(70)
    boot()
    until(lambda: reachable("/+api"), "the mirror is not back", BACK)
    for kind in ("cached", "new"):
        run_clients(kind)
    until(lambda: is_good(name), f"{name} does not come", BACK)


def fsck() -> str:
    said = inside("/opt/devpi/bin/devpi-fsck --serverdir /data/server 2>&1")
    assert "Finished with a total of" in said
    return said


def test_at_the_end_everything_is_whole() -> None:
    on_host("systemctl stop clients-new")
    inside("/opt/devpi/bin/python /opt/devpi/etc/caretaker.py all")
    # What a server that died has not kept comes back when it is asked for.
    for path in re.findall(r"Missing file (\S+)", fsck()):
        assert ask(f"/{path}").status == 200
    assert not re.search("mismatch|Missing", fsck())
    got = on_host("cd /home/ada/new && sha256sum *").split("\n")
    digests = dict(reversed(line.split()) for line in got if line)
    assert digests
    for name, digest in list(digests.items())[-20:]:
        (file,) = files(name.split("-")[0]).values()
        assert file["hashes"]["sha256"] == digest
