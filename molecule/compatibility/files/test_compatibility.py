# SPDX-License-Identifier: GPL-3.0-or-later
"""All supported releases of ansible-core deploy and remove the same mirror, and so do third-party playbooks.

The settings of a playbook that includes the role apply to its own tasks, not to the mirror.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import on_host
from plays import REMOVE_ALL, run_play, state, succeed

SITE = "devpi.mirror.site"
FOLDER = Path(__file__).parent
PROJECT = FOLDER.parents[2]
RELEASES = sorted(path.stem.removeprefix("ansible-") for path in (PROJECT / "requirements").glob("ansible-*.in"))
# These deploy and remove a mirror: the oldest, the newest, and the last one before templates changed in 2.19. The others run on
# the mirror that the newest one has deployed.
DEPLOYING = ("2.15", "2.18", RELEASES[-1])
OTHERS = tuple(release for release in RELEASES if release not in DEPLOYING)
WORKSTATION = PROJECT / "roles" / "workstation" / "tasks" / "main.yml"
BOBS_CONFIGURATION = "cat /home/bob/.config/pip/pip.conf"


@dataclass(frozen=True)
class Lifecycle:
    """The tasks that change something when a mirror is deployed and removed, and the host's state after each.

    ``repeated`` has the tasks that other releases of ansible-core change on the deployed host, by release.
    """

    deployed: list[str]
    state: list[str]
    repeated: dict[str, list[str]]
    removed: list[str]
    state_after: list[str]


def deploy(playbook: str, release: str | None = None, env: dict[str, str] | None = None) -> tuple[list[str], list[str]]:
    """Deploy the mirror, and return the tasks that changed something and the host's state. A second run must change nothing."""
    deployed = succeed(playbook, release=release, env=env)
    found = state()
    assert succeed(playbook, release=release, env=env).changed == []
    return deployed.changed, found


def deploy_and_remove(release: str, others: tuple[str, ...] = ()) -> Lifecycle:
    """Deploy the mirror with a release of ansible-core, run the playbook again with others, and remove it."""
    try:
        deployed, found = deploy(SITE, release)
        repeated = {other: succeed(SITE, release=other).changed for other in others}
    finally:
        removed = succeed("devpi.mirror.remove", release=release, variables=REMOVE_ALL)
    return Lifecycle(deployed, found, repeated, removed.changed, state())


@pytest.fixture(scope="module")
def newest() -> Lifecycle:
    """Return what the newest release does."""
    return deploy_and_remove(RELEASES[-1], OTHERS)


def test_other_releases_change_nothing(newest: Lifecycle) -> None:
    assert newest.repeated == {release: [] for release in OTHERS}


@pytest.mark.parametrize("release", DEPLOYING[:-1])
def test_release(newest: Lifecycle, release: str) -> None:
    lifecycle = deploy_and_remove(release)
    # Lists have more readable differences.
    assert lifecycle.deployed == newest.deployed
    assert lifecycle.state == newest.state
    assert lifecycle.removed == newest.removed
    assert lifecycle.state_after == newest.state_after


@pytest.mark.parametrize(
    "variables",
    [{"ansible_user": "ada"}, {"ansible_become_user": "bob"}],
    ids=["no-sudo", "other-become-user"],
)
def test_missing_privileges(variables: dict[str, str]) -> None:
    before = state()
    outcome = run_play(SITE, variables=variables)
    assert outcome.status != 0
    assert "root" in outcome.output
    assert "No start of json char found" not in outcome.output
    assert outcome.changed == []
    assert state() == before


def test_start_at_task() -> None:
    """No task of the workstation role configures clients if the tasks before it did not run."""
    before = on_host(BOBS_CONFIGURATION)
    names = [line.split("name: ", 1)[1] for line in WORKSTATION.read_text().splitlines() if line.startswith("- name: ")]
    for name in names[1:]:
        run_play(SITE, "--start-at-task", f"devpi.mirror.workstation : {name}")
        assert on_host(BOBS_CONFIGURATION) == before, name


@pytest.fixture(scope="module")
def other_playbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Deploy the mirror with a playbook that has settings of its own, and return the host's state."""
    config = tmp_path_factory.mktemp("other") / "ansible.cfg"
    config.write_text(
        "[defaults]\nansible_managed = Managed by another administrator\nstrategy = free\n[connection]\npipelining = true\n"
    )
    on_host("python3 -m venv /opt/other")
    yield deploy(str(FOLDER / "other_playbook.yml"), env={"ANSIBLE_CONFIG": str(config)})[1]
    succeed("devpi.mirror.remove", variables=REMOVE_ALL)


def test_same_mirror(newest: Lifecycle, other_playbook: list[str]) -> None:
    """The mirror is the same with module defaults, another user, interpreter, DOCKER_HOST, strategy and ansible_managed."""
    assert other_playbook == newest.state


def test_second_mirror(other_playbook: list[str]) -> None:
    """Clients of a host use one mirror: a second one would change their configuration at each run."""
    second = {"devpi_server_name": "second", "devpi_server_volume": "second-data", "devpi_mirror_port": 3142}
    outcome = run_play(SITE, variables=second)
    assert outcome.status != 0
    assert "devpi_server_name" in outcome.output
    assert outcome.changed == []
    assert state() == other_playbook


@pytest.mark.usefixtures("other_playbook")
def test_unreachable_host_is_ignored() -> None:
    outcome = run_play(str(FOLDER / "unreachable_host.yml"), variables={"ansible_host": "no-such-container"})
    assert "is undefined" not in outcome.output
