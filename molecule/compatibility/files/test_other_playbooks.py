# SPDX-License-Identifier: GPL-3.0-or-later
"""The role inside other people's playbooks: their settings apply to their own tasks, not to the mirror."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plays import REMOVE_ALL, Life, live, on_host, run_play, state, succeed

OTHER_PLAYBOOK = str(Path(__file__).parent / "other_playbook.yml")
WORKSTATION = Path(__file__).parents[3] / "roles" / "workstation" / "tasks" / "main.yml"
BOBS = "cat /home/bob/.config/pip/pip.conf"


@pytest.fixture(scope="module")
def ordinary() -> Life:
    """Return what the collection's own playbook does."""
    return live()


def test_same_mirror(ordinary: Life, tmp_path: Path) -> None:
    """The mirror is the same with module defaults, another user, interpreter, DOCKER_HOST, strategy and ansible_managed."""
    config = tmp_path / "ansible.cfg"
    config.write_text(
        "[defaults]\nansible_managed = Managed by another administrator\nstrategy = free\n[connection]\npipelining = true\n"
    )
    on_host("test -d /opt/other || python3 -m venv /opt/other")
    assert live(playbook=OTHER_PLAYBOOK, env={"ANSIBLE_CONFIG": str(config)}).state == ordinary.state


@pytest.mark.parametrize(
    "variables",
    [{"ansible_user": "ada"}, {"ansible_become_user": "bob"}],
    ids=["no-sudo", "other-become-user"],
)
def test_missing_privileges(variables: dict[str, str]) -> None:
    before = state()
    outcome = run_play("devpi.mirror.site", variables=variables)
    assert outcome.status != 0
    assert "root" in outcome.output
    assert "No start of json char found" not in outcome.output
    assert outcome.changed == []
    assert state() == before


def test_start_at_task() -> None:
    """No task of the workstation role configures clients if the tasks before it did not run."""
    before = on_host(BOBS)
    names = [line.split("name: ", 1)[1] for line in WORKSTATION.read_text().splitlines() if line.startswith("- name: ")]
    for name in names[1:]:
        run_play("devpi.mirror.site", "--start-at-task", f"devpi.mirror.workstation : {name}")
        assert on_host(BOBS) == before, name


@pytest.fixture(scope="module")
def mirror() -> Iterator[None]:
    """Deploy the mirror, and remove it at the end."""
    succeed("devpi.mirror.site")
    yield
    succeed("devpi.mirror.remove", variables=REMOVE_ALL)


def test_second_mirror(mirror: None) -> None:
    """Clients of a host use one mirror: a second one would change their configuration at each run."""
    before = state()
    second = {"devpi_server_name": "second", "devpi_server_volume": "second-data", "devpi_mirror_port": 3142}
    outcome = run_play("devpi.mirror.site", variables=second)
    assert outcome.status != 0
    assert "devpi_server_name" in outcome.output
    assert outcome.changed == []
    assert state() == before


def test_unreachable_host_is_ignored(mirror: None) -> None:
    outcome = run_play(
        str(Path(__file__).parent / "unreachable_host.yml"), variables={"ansible_host": "no-such-container"}
    )
    assert "is undefined" not in outcome.output
