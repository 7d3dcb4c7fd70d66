# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary fails, one of its replicas is promoted, and the other servers follow it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest
from devpi_servers import choose_port, log_in, prepare, request, running, upload
from fake_index import WHEEL
from test_reading import basic
from test_replication import file_url, serial, wait_until, wait_until_in_sync

SCRIPT = "import sys; from devpi_mirror import role_change; role_change.apply(*sys.argv[1:])"
PAGE = "/ada/secret/+simple/{}/"


def run(server, *arguments: str) -> str:
    """Run the module's program, or its function ``apply`` for a role and the URL of a primary, as the entrypoint does."""
    command = ["-m", "devpi_mirror.role_change", *arguments]
    if arguments[0] in ("primary", "replica", "standalone"):
        command = ["-c", SCRIPT, *arguments]
    done = start(server, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(server, *command: str) -> subprocess.CompletedProcess:
    environ = {
        **server.environ,
        "DEVPI_MIRROR_BIN": str(Path(sys.executable).parent),
        "DEVPI_MIRROR_RESTART_LIMIT": "0",
    }
    return subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True, check=False)


def status(server) -> dict:
    return json.loads(run(server, "status"))


def check(server) -> dict:
    return json.loads(run(server, "check"))


def secret_hash(server) -> str:
    return sha256((server.folder / "secret").read_bytes()).hexdigest()


def permit(server, primary, *more: str) -> str:
    """Permit a server to follow a promoted one."""
    state = status(primary)
    promotion = state["promotion"]
    options = {
        "--primary-url": primary.url,
        "--primary-uuid": state["uuid"],
        "--previous-uuid": promotion["previous_uuid"],
        "--serial": str(promotion["serial"]),
        "--secret-hash": secret_hash(primary),
    }
    return run(server, "permit", *(part for option in options.items() for part in option), *more).strip()


def write_permission(server, **content: str) -> None:
    (server.folder / "permitted-role.json").write_text(json.dumps(content))


class Site:
    """Servers that are started, stopped and started again with another role."""

    def __init__(self, folder: Path, secret: list[str]) -> None:
        self.folder = folder
        self.secret = secret
        self.started = ExitStack()

    def create(self, name: str, *role: str):
        folder = self.folder / name
        folder.mkdir()
        # As the entrypoint does.
        (folder / "secret").write_bytes(Path(self.secret[1]).read_bytes())
        return self.start(folder, prepare(folder, list(role)), choose_port(), role)

    def start(self, folder: Path, environ: dict[str, str], port: int, role: tuple[str, ...]):
        return self.started.enter_context(running(folder, environ, [*role, *self.secret], port))

    def restart(self, server, role: str, primary_url: str = ""):
        """Start a stopped server as the entrypoint does."""
        run(server, role, primary_url)
        options = ("--role", role, *(["--primary-url", primary_url] if primary_url else []))
        if not (server.folder / "server" / ".nodeinfo").exists():
            subprocess.run(
                [Path(sys.executable).with_name("devpi-init"), "--serverdir", server.folder / "server", *options],
                check=True,
                capture_output=True,
            )
        return self.start(server.folder, server.environ, server.port, options)


@pytest.fixture
def site(tmp_path, secret):
    made = Site(tmp_path, secret)
    with made.started:
        yield made


def add_user(server) -> None:
    auth = log_in(server.url)
    for path, data in (("ada", {"password": "of-ada"}), ("ada/secret", {"acl_read": ["ada"], "acl_upload": ["ada"]})):
        response = request(f"{server.url}/{path}", "PUT", data, X_Devpi_Auth=auth, Content_Type="application/json")
        assert response.status < 300, response.body


def serves(server, project: str) -> bool:
    response = request(f"{server.url}{PAGE.format(project)}", **basic("ada"))
    return response.status == 200 and b".whl" in response.body


def test_a_replica_is_promoted_and_the_other_servers_follow(site):
    primary = site.create("primary", "--role", "primary")
    add_user(primary)
    chosen, other = (site.create(name, "--role", "replica", "--primary-url", primary.url) for name in ("one", "two"))
    upload(f"{primary.url}/ada/secret", "first", **basic("ada"))
    for replica in (chosen, other):
        wait_until_in_sync(primary, replica)
        assert request(file_url(replica, PAGE.format("first"), **basic("ada")), **basic("ada")).body == WHEEL
    assert check(chosen)["primary_responds"]
    other.stop()
    upload(f"{primary.url}/ada/secret", "second", **basic("ada"))
    wait_until_in_sync(primary, chosen)
    known = serial(primary)
    primary.stop()
    before = status(chosen)
    assert (before["role"], before["serial"]) == ("replica", known)
    (stored,) = (chosen.folder / "server" / "+files" / "ada").rglob("first-*.whl")
    stored.unlink()
    checked = check(chosen)
    assert not checked["primary_responds"]
    assert str(stored.relative_to(chosen.folder / "server" / "+files")) in checked["lost_files"]

    chosen.stop()
    refused = start(chosen, "-c", SCRIPT, "primary", "")
    assert "only devpi.mirror.promote turns into a primary" in refused.stderr
    assert not (chosen.folder / "root-password").exists()
    run(chosen, "permit-promotion")
    run(chosen, "primary", "")
    # As if the container had been killed before it stored the password.
    (chosen.folder / "root-password").unlink()
    write_permission(chosen, role="primary")
    promoted = site.restart(chosen, "primary")
    password = (promoted.folder / "root-password").read_text()
    log_in(promoted.url, "root", password)
    upload(f"{promoted.url}/ada/secret", "third", **basic("ada"))
    assert (status(promoted)["role"], status(promoted)["promotion"]["serial"]) == ("primary", known)

    # A server that had received more than the promoted one would have to start with new data.
    state = status(promoted)
    permitted = ["--primary-url", promoted.url, "--primary-uuid", state["uuid"]]
    permitted += ["--previous-uuid", state["promotion"]["previous_uuid"], "--serial", "1"]
    permitted += ["--secret-hash", secret_hash(promoted)]
    run(other, "permit", *permitted)
    assert json.loads((other.folder / "permitted-role.json").read_text())["needs_new_data"]

    # It has nothing that the new primary does not have, so it continues with its data.
    (other.folder / "permitted-role.json").unlink()
    assert permit(other, promoted, "--dry-run") == "continues"
    assert not (other.folder / "permitted-role.json").exists()
    assert permit(other, promoted) == "continues"
    followed = site.restart(other, "replica", promoted.url)
    wait_until_in_sync(promoted, followed)
    assert all(serves(followed, project) for project in ("first", "second", "third"))
    assert not list(followed.folder.glob("previous-*"))
    assert permit(followed, promoted) == "unchanged"

    # The former primary starts with new data.
    assert permit(primary, promoted, "--dry-run") == permit(primary, promoted) == "replaced"
    returned = site.restart(primary, "replica", promoted.url)
    wait_until_in_sync(promoted, returned)
    # Of the file that was lost, the status has the error.
    wait_until(lambda: "/first-" in request(f"{returned.url}/+status", Accept="application/json").body.decode())
    assert all(serves(returned, project) for project in ("first", "second", "third"))
    (previous,) = returned.folder.glob("previous-*")
    assert json.loads((previous / "server" / ".nodeinfo").read_text())["role"] == "primary"
    assert permit(returned, promoted) == "unchanged"

    # A primary can't be promoted again, and a permission to follow does not permit a promotion.
    assert "not a replica" in start(promoted, "-m", "devpi_mirror.role_change", "permit-promotion").stderr
    write_permission(returned, role="replica", primary_url="http://other.example")
    assert "only devpi.mirror.promote turns into a primary" in start(returned, "-c", SCRIPT, "primary", "").stderr
    # It is valid until the server starts with that primary.
    run(returned, "replica", promoted.url)
    assert (returned.folder / "permitted-role.json").exists()
    # A promotion is permitted for the next start only.
    run(returned, "permit-promotion")
    run(returned, "replica", promoted.url)
    assert not (returned.folder / "permitted-role.json").exists()
    assert "only devpi.mirror.promote turns into a primary" in start(returned, "-c", SCRIPT, "primary", "").stderr

    # A server of another mirror keeps its data.
    other_mirror = site.create("other", "--role", "primary")
    other_mirror.stop()
    (other_mirror.folder / "secret").write_text("of another mirror")
    command = ["-m", "devpi_mirror.role_change", "permit", *permitted]
    assert "has data of its own" in start(other_mirror, *command).stderr
    log_in(returned.url, "root", password)


def test_a_primary_that_was_off_during_two_promotions_follows(site):
    first = site.create("first", "--role", "primary")
    add_user(first)
    second, third = (site.create(name, "--role", "replica", "--primary-url", first.url) for name in ("second", "third"))
    for replica in (second, third):
        wait_until_in_sync(first, replica)
    first.stop()
    for replica in (second, third):
        replica.stop()
    run(second, "permit-promotion")
    second = site.restart(second, "primary")
    assert permit(third, second) == "continues"
    third = site.restart(third, "replica", second.url)
    wait_until_in_sync(second, third)
    second.stop()
    third.stop()
    run(third, "permit-promotion")
    third = site.restart(third, "primary")
    upload(f"{third.url}/ada/secret", "late", **basic("ada"))
    for server in (first, second):
        assert permit(server, third) == "replaced"
        server = site.restart(server, "replica", third.url)
        wait_until_in_sync(third, server)
        assert serves(server, "late")
        (previous,) = server.folder.glob("previous-*")
        assert (previous / "server" / ".nodeinfo").exists()


def test_a_replica_with_changes_that_its_primary_lacks_replicates_no_more(site):
    primary = site.create("primary", "--role", "primary")
    add_user(primary)
    replica = site.create("replica", "--role", "replica", "--primary-url", primary.url)
    primary.stop()
    data, earlier = primary.folder / "server", primary.folder / "earlier"
    shutil.copytree(data, earlier)
    primary = site.restart(primary, "primary")
    upload(f"{primary.url}/ada/secret", "lost", **basic("ada"))
    wait_until_in_sync(primary, replica)
    known = serial(replica)
    assert not status(replica)["is_ahead"]
    primary.stop()
    shutil.rmtree(data)
    earlier.rename(data)
    primary = site.restart(primary, "primary")
    wait_until(lambda: status(replica)["is_ahead"])
    # The primary has more changes than the replica now, and some of them are others.
    while serial(primary) <= known:
        upload(f"{primary.url}/ada/secret", f"new{serial(primary)}", **basic("ada"))
    wait_until(lambda: "has changes that its primary does not have" in replica.log.read_text())
    assert serial(replica) == known
    assert serves(replica, "lost")
    # It can follow no primary with this data, neither its own nor a promoted replica.
    for uuid, previous in ((status(primary)["uuid"], ""), ("of-other", status(primary)["uuid"])):
        followed = ["--primary-url", primary.url, "--primary-uuid", uuid, "--previous-uuid", previous]
        followed += ["--serial", str(known), "--secret-hash", secret_hash(primary)]
        assert run(replica, "permit", *followed, "--dry-run").strip() == "replaced"
    primary.stop()
    replica.stop()
    run(replica, "permit-promotion")
    run(replica, "primary", "")
    assert not status(replica)["is_ahead"]
