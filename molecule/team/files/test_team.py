# SPDX-License-Identifier: GPL-3.0-or-later
"""While clients read, upload, log in and install all the time, servers fail, are promoted, updated and disconnected.

Each test continues with the state that the previous one leaves.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from harness import LOST, RECOVERY_LIMIT, until
from hosts import LAPTOPS, PREFIX, SERVERS, Server, basic, disconnected, docker, install, on, run_play

# A server must have received what its primary has within this many seconds.
SYNC_LIMIT = 60.0
# Seconds for which an installer repeats a request that fails, as pip does.
RETRY_LIMIT = 15.0


class Traffic:
    """Clients that read, upload and log in at the servers that are ``available``, and laptops that install."""

    def __init__(self) -> None:
        self.servers = {name: Server(name) for name in SERVERS}
        self.available = list(SERVERS)
        self.primary = "one"
        self.uploaded: list[str] = []
        self.counts = dict.fromkeys(("read", "refused", "uploaded", "logged in", *LAPTOPS), 0)
        self.failures: list[str] = []
        self.stopping = threading.Event()
        clients = [self.read, self.read, self.try_to_read, self.upload, self.log_in]
        clients += [lambda name=name: self.install(name) for name in LAPTOPS]  # type: ignore[misc]
        self.threads = [threading.Thread(target=self.repeat, args=(client,)) for client in clients]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def repeat(self, client: Callable[[], None]) -> None:
        while not self.stopping.is_set():
            try:
                client()
            except Exception as exc:  # noqa: BLE001 - an error of a test must not look like a success
                self.failures.append(f"{client}: {exc!r}")
            # The servers need the processors too, above all a replica that receives changes faster than they are made.
            time.sleep(0.5)

    def choose(self) -> Server:
        return self.servers[random.choice(self.available)]

    def read(self) -> None:
        """Read what was uploaded. A client tries another server if one does not respond, and repeats a request."""
        if not self.uploaded:
            return
        project = random.choice(self.uploaded)
        seen = []
        end = time.monotonic() + SYNC_LIMIT
        while time.monotonic() < end:
            server = self.choose()
            try:
                status: int | str = server.read(project, basic("acme"))
            except LOST as exc:
                status = repr(exc)
            if status == 200:
                self.counts["read"] += 1
                return
            seen.append(f"{server.name}: {status}")
            time.sleep(0.5)
        self.failures.append(f"{project} can't be read: {seen[-5:]}")

    def try_to_read(self) -> None:
        """Read without the permission."""
        if not self.uploaded:
            return
        server, project = self.choose(), random.choice(self.uploaded)
        for authorization in ("", basic("guest")):
            try:
                status = server.read(project, authorization)
            except LOST:
                continue
            if status == 200:
                self.failures.append(f"{project} can be read with {authorization or 'no credentials'} at {server.name}")
            self.counts["refused"] += status in (401, 403)

    def upload(self) -> None:
        project = f"ours{random.randrange(10**9)}"
        try:
            status = self.choose().upload(project)
        except LOST:
            return
        if status == 200:
            self.uploaded.append(project)
            self.counts["uploaded"] += 1
        # Later tests read each upload from all servers.
        self.stopping.wait(1)

    def log_in(self) -> None:
        try:
            self.counts["logged in"] += self.choose().log_in() == 200
        except LOST:
            return

    def install(self, name: str) -> None:
        """Download a package that the laptop has not cached."""
        project = f"new{random.randrange(2, 10**6)}"
        seen = ""
        end = time.monotonic() + RETRY_LIMIT
        while time.monotonic() < end:
            try:
                install(name, project)
            except AssertionError as exc:
                seen = str(exc).strip().splitlines()[-1]
                time.sleep(0.5)
            else:
                self.counts[name] += 1
                return
        self.failures.append(f"{name} can't install {project}: {seen}")

    def await_more(self, *kinds: str, number: int = 3) -> None:
        """Wait until more requests of these kinds have succeeded."""
        before = dict(self.counts)
        until(
            lambda: all(self.counts[kind] >= before[kind] + number for kind in kinds),
            f"no more requests succeed: {before}, {self.counts}, {self.failures[-3:]}",
            RECOVERY_LIMIT,
        )

    def assert_complete(self, name: str) -> None:
        """Assert that a server has all private packages."""
        server = self.servers[name]
        for project in list(self.uploaded):
            until(
                lambda project=project: server.read(project, basic("acme")) == 200,  # type: ignore[misc]
                f"{name} does not serve {project}",
                SYNC_LIMIT,
            )

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Clients do not use a server, as if a load balancer had removed it."""
        self.available.remove(name)
        yield
        self.available.append(name)


@pytest.fixture(scope="module")
def traffic() -> Iterator[Traffic]:
    made = Traffic()
    try:
        yield made
    finally:
        made.stop()


def run_with_primary(
    playbook: str,
    primary: str,
    *options: str,
    is_refused: bool = False,
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Run a playbook with another primary, and with servers whose limit of memory is not the one of the first play.

    ``settings`` are other variables of servers.
    """
    replicas = [name for name in SERVERS if name != primary]
    servers = {name: {"devpi_server_memory": "700m", **(settings or {}).get(name, {})} for name in (primary, *replicas)}
    groups = {
        "devpi_primary": {primary: servers[primary]},
        "devpi_replicas": {name: servers[name] for name in replicas},
        "devpi_laptops": list(LAPTOPS),
    }
    return run_play(playbook, groups, *options, is_refused=is_refused)


def test_a_replica_is_disconnected_and_returns(traffic: Traffic) -> None:
    traffic.await_more("read", "refused", "uploaded", "logged in", *LAPTOPS)
    with traffic.without("two"):
        with disconnected("two"):
            traffic.await_more("read", "uploaded")
        traffic.assert_complete("two")
    traffic.await_more("read", "refused")
    assert traffic.failures == []


def metrics(name: str) -> dict[str, float]:
    """Return the metrics of a server that have no labels."""
    script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9191/metrics').read().decode())"
    lines = [line.split() for line in on(name, f'python3 -c "{script}"').splitlines()]
    return {line[0]: float(line[1]) for line in lines if len(line) == 2 and "{" not in line[0]}


def doctor(primary: str, name: str) -> str:
    """Return the report about a server."""
    return " ".join(run_with_primary("devpi.mirror.doctor", primary, "--limit", PREFIX + name).split())


def fill_disk() -> None:
    """Fill the small disk, which prepare.yml provides."""
    on("three", "dd if=/dev/zero bs=4k >>/srv/room/filling 2>/dev/null || true")


def test_the_disk_of_a_replica_fills_up(traffic: Traffic) -> None:
    replica = traffic.servers["three"]
    traffic.await_more("uploaded")
    with traffic.without("three"):
        traffic.assert_complete("three")
        stored = list(traffic.uploaded)
        fill_disk()
        assert [replica.read(project, basic("acme")) for project in stored] == [200] * len(stored)
        assert {replica.read(stored[0]), replica.read(stored[0], basic("guest"))} <= {401, 403}
        # The primary has it, and the replica can't store it.
        forwarded = f"ours{random.randrange(10**9)}"
        assert replica.upload(forwarded) == 200
        traffic.uploaded.append(forwarded)
        assert traffic.servers["one"].read(forwarded, basic("acme")) == 200
        assert replica.log_in() == 200
        # Data that the replica no longer needs can free some space.
        fill_disk()
        traffic.await_more("uploaded", number=10)
        assert "The disk is full" in doctor("one", "three")
        until(lambda: metrics("three")["devpi_mirror_problems"] > 0, "the metrics have no problem", RECOVERY_LIMIT)
        values = metrics("three")
        assert values["devpi_mirror_disk_free_bytes"] < 10**6
        assert values["devpi_mirror_replica_in_sync"] == 0
        assert [replica.read(project, basic("acme")) for project in stored] == [200] * len(stored)
        on("three", "rm /srv/room/filling")
        traffic.assert_complete("three")
        on("three", f"test $(find /srv/room/server/+files -name '{forwarded}-*.whl' | wc -l) = 1")
    until(lambda: metrics("three")["devpi_mirror_problems"] == 0, "the metrics still have a problem", RECOVERY_LIMIT)
    traffic.await_more("read", "refused", "uploaded")
    assert traffic.failures == []


def test_the_clock_of_a_replica_drifts(traffic: Traffic) -> None:
    replica = traffic.servers["two"]
    traffic.await_more("uploaded")
    with traffic.without("two"):
        on("two", RUN_WITH_OTHER_CLOCK)
        until(lambda: answers(replica), "the replica does not start", RECOVERY_LIMIT)
        traffic.assert_complete("two")
        stored = list(traffic.uploaded)
        on("two", "docker exec devpi sh -c 'echo 10 >/data/clock/offset'")
        # A request for changes from before can last half a minute.
        until(lambda: is_behind(replica, traffic), "the replica still receives changes", RECOVERY_LIMIT)
        report = doctor("one", "two")
        assert "receive changes from its primary" in report, report
        assert "s ahead of that of the primary, and devpi replicates only to a clock" in report, report
        assert [replica.read(project, basic("acme")) for project in stored] == [200] * len(stored)
        assert {replica.read(stored[0]), replica.read(stored[0], basic("guest"))} <= {401, 403}
        on("two", "docker exec devpi sh -c 'echo 0 >/data/clock/offset'")
        traffic.assert_complete("two")
        on("two", "sed -i '/^PYTHONPATH=/d' /etc/devpi-mirror.env; systemctl restart devpi")
        until(lambda: answers(replica), "the replica does not start", RECOVERY_LIMIT)
    traffic.await_more("read", "refused", "uploaded")
    assert traffic.failures == []


# The time of Python in the container, but not on the host, has an offset that is read from a file.
RUN_WITH_OTHER_CLOCK = """
    docker exec -i devpi sh -c 'mkdir -p /data/clock && echo 0 >/data/clock/offset && cat >/data/clock/sitecustomize.py' <<END
import time
now = time.time
time.time = lambda: now() + float(open('/data/clock/offset').read() or 0)
END
    echo PYTHONPATH=/data/clock >>/etc/devpi-mirror.env
    systemctl restart devpi
"""


def is_behind(replica: Server, traffic: Traffic) -> bool:
    """Return whether a replica lacks more changes than a busy one does."""
    return replica.serial() < traffic.servers[traffic.primary].serial() - 20


def starts() -> dict[str, str]:
    """Return when the mirror of each server was started."""
    return {name: on(name, "docker inspect --format '{{.State.StartedAt}}' devpi") for name in SERVERS}


def test_a_certificate_is_renewed(traffic: Traffic) -> None:
    on("one", "issue-certificate 90")
    assert on("one", "sh /etc/devpi-mirror.sh certificate") == "changed\n"
    traffic.await_more("read", "uploaded", "logged in")
    assert traffic.failures == []


def test_servers_are_changed_one_after_the_other(traffic: Traffic) -> None:
    before = starts()
    run_with_primary("converge.yml", "one")
    after = starts()
    assert [name for name in SERVERS if before[name] == after[name]] == []
    assert after["one"] < min(after["two"], after["three"])
    traffic.await_more("read", "uploaded", *LAPTOPS)
    assert traffic.failures == []


def test_a_replica_with_a_wrong_clock_is_not_changed(traffic: Traffic) -> None:
    on("two", INSTALL_PYTHON_WITH_OTHER_CLOCK)
    before = starts()
    changed = {"devpi_server_memory": "720m"}
    wrong = {**changed, "ansible_python_interpreter": "/usr/local/bin/python3-ahead"}
    output = run_with_primary("converge.yml", "one", is_refused=True, settings={"two": wrong, "three": changed})
    assert "would refuse this replica: the clock of this host is" in output
    assert "Nothing was changed. Run an NTP client on both servers, and run the playbook again." in output
    after = starts()
    assert (after["two"], after["three"]) == (before["two"], before["three"])
    traffic.await_more("read", "uploaded", "logged in", *LAPTOPS)
    assert traffic.failures == []


def test_a_replica_that_does_not_trust_the_primary_is_not_changed(traffic: Traffic) -> None:
    before = starts()
    changed = {"devpi_server_memory": "720m", "devpi_server_ca_bundle": ""}
    output = run_with_primary("converge.yml", "one", is_refused=True, settings={"two": changed, "three": changed})
    assert "its certificate is not trusted" in output
    assert "Nothing was changed. Set devpi_server_ca_bundle to a file on this host" in output
    after = starts()
    assert (after["two"], after["three"]) == (before["two"], before["three"])
    assert traffic.failures == []


INSTALL_PYTHON_WITH_OTHER_CLOCK = """
    echo '#!/bin/sh' >/usr/local/bin/python3-ahead
    echo 'LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=+10 exec python3 "$@"' >>/usr/local/bin/python3-ahead
    chmod +x /usr/local/bin/python3-ahead
"""


def test_a_laptop_leaves_the_office_and_returns(traffic: Traffic) -> None:
    with disconnected("ada"):
        traffic.await_more("ada", number=5)
    traffic.await_more("ada", "bob")
    assert traffic.failures == []


def newest_replica(traffic: Traffic) -> str:
    """Return the replica that has received the most changes. Only this one can be promoted without a loss."""
    return max(("two", "three"), key=lambda name: traffic.servers[name].serial())


def test_a_replica_replaces_the_failed_primary(traffic: Traffic) -> None:
    assert "one runs as the primary, and two primaries" in run_with_primary("promote.yml", "two", is_refused=True)
    with traffic.without("one"):
        docker("kill", "one")
        traffic.await_more("read", "refused", *LAPTOPS)
        traffic.primary = newest_replica(traffic)
        assert "Would promote devpi" in run_with_primary("promote.yml", traffic.primary, "--check", "--diff")
        output = run_with_primary("promote.yml", traffic.primary)
        assert f"{PREFIX}one is unreachable" in output
        assert "All private files were received" in output.partition("Permit the promotion")[0]
        traffic.await_more("read", "uploaded", "logged in")
        for name in ("two", "three"):
            traffic.assert_complete(name)
        # The former primary starts as one, and no client uses it.
        docker("start", "one")
        traffic.servers["one"].find_address()
        until(lambda: answers(traffic.servers["one"]), "the former primary does not start", RECOVERY_LIMIT)
        run_with_primary("promote.yml", traffic.primary)
        traffic.assert_complete("one")
    traffic.await_more("read", "refused", "uploaded", "logged in", *LAPTOPS)
    assert traffic.failures == []


def answers(server: Server) -> bool:
    try:
        return server.ask("/+api").status == 200
    except LOST:
        return False


def test_a_second_run_changes_nothing(traffic: Traffic) -> None:
    # The laptops' upstream is the new primary now.
    run_with_primary("converge.yml", traffic.primary)
    for options in ((), ("--check", "--diff")):
        output = run_with_primary("converge.yml", traffic.primary, *options)
        recap = output[output.index("PLAY RECAP") :]
        assert recap.count("changed=0") == recap.count("changed="), recap
    traffic.await_more("read", "uploaded", *LAPTOPS)
    assert traffic.failures == []


RELEASE_7 = {
    "devpi_server_release": "7",
    "devpi_server_image_archive": f"{os.environ['DEVPI_MIRROR_TEST_CACHE']}/devpi-7.tar",
}


def release(name: str) -> str:
    script = (
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:3141/+api').headers['X-Devpi-Server-Version'])"
    )
    return on(name, f'python3 -c "{script}"').split(".")[0]


def test_servers_are_upgraded_to_the_next_release(traffic: Traffic) -> None:
    replicas = [name for name in SERVERS if name != traffic.primary]
    settings = {replicas[0]: RELEASE_7}
    output = run_with_primary("converge.yml", traffic.primary, is_refused=True, settings=settings)
    assert "and replicas need the same release. Nothing was changed. Upgrade the primary first" in output
    assert {release(name) for name in SERVERS} == {"6"}
    settings = dict.fromkeys(SERVERS, RELEASE_7)
    run_with_primary("converge.yml", traffic.primary, settings=settings)
    assert {release(name) for name in SERVERS} == {"7"}
    traffic.await_more("read", "refused", "uploaded", "logged in", *LAPTOPS)
    output = run_with_primary("converge.yml", traffic.primary, settings=settings)
    recap = output[output.index("PLAY RECAP") :]
    assert recap.count("changed=0") == recap.count("changed="), recap
    assert traffic.failures == []


def test_no_acknowledged_upload_is_lost(traffic: Traffic) -> None:
    traffic.stop()
    for name in SERVERS:
        traffic.assert_complete(name)
    assert traffic.failures == []
    print(f"Requests that succeeded: {traffic.counts}")
