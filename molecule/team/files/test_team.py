# SPDX-License-Identifier: GPL-3.0-or-later
"""While clients read, upload, log in and install all the time, servers fail, are promoted, updated and disconnected.

Each test continues with the state that the previous one leaves.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
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
            # Tests need the processors too.
            time.sleep(0.2)

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


def run_with_primary(playbook: str, primary: str, *options: str, is_refused: bool = False) -> str:
    """Run a playbook with another primary, and with servers whose limit of memory is not the one of the first play."""
    replicas = [name for name in SERVERS if name != primary]
    servers = {name: {"devpi_server_memory": "700m"} for name in (primary, *replicas)}
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


def test_a_certificate_is_renewed(traffic: Traffic) -> None:
    on("one", "issue-certificate 90")
    assert on("one", "sh /etc/devpi-mirror.sh certificate") == "changed\n"
    traffic.await_more("read", "uploaded", "logged in")
    assert traffic.failures == []


def test_servers_are_changed_one_after_the_other(traffic: Traffic) -> None:
    started = "docker inspect --format '{{.State.StartedAt}}' devpi"
    before = {name: on(name, started) for name in SERVERS}
    run_with_primary("converge.yml", "one")
    after = {name: on(name, started) for name in SERVERS}
    assert [name for name in SERVERS if before[name] == after[name]] == []
    assert after["one"] < min(after["two"], after["three"])
    traffic.await_more("read", "uploaded", *LAPTOPS)
    assert traffic.failures == []


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
        output = run_with_primary("promote.yml", traffic.primary)
        assert f"{PREFIX}one is unreachable" in output
        assert "All private files were received" in output
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


def test_no_acknowledged_upload_is_lost(traffic: Traffic) -> None:
    traffic.stop()
    for name in SERVERS:
        traffic.assert_complete(name)
    assert traffic.failures == []
    print(f"Requests that succeeded: {traffic.counts}")
