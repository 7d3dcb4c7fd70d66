# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of other projects, by their names in a registry: the mirror's whole life with each.

Each test relies on those before it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from harness import HOST, RECOVERY_LIMIT, on_host, until
from plays import REMOVE_ALL, run_play, state, succeed

REGISTRY = "127.0.0.1:5000"
PASSWORD = "not in any output"
# What docs/operations.md recommends for each.
VARIABLES: dict[str, dict[str, Any]] = {
    "scrapinghub": {
        "devpi_server_image": f"{REGISTRY}/scrapinghub/devpi:latest",
        "devpi_server_image_data_path": "/mnt",
        "devpi_server_image_user": "",
        "devpi_server_image_read_only": False,
        "devpi_server_environment": {"DEVPI_PASSWORD": PASSWORD},
    },
    "jonasal": {
        "devpi_server_image": f"{REGISTRY}/jonasal/devpi-server:6.20.3",
        "devpi_server_image_data_path": "/devpi/server",
        "devpi_server_image_user": "",
        "devpi_server_image_read_only": False,
        "devpi_server_environment": {"DEVPI_PASSWORD": PASSWORD},
    },
}
INSTALL = """
cd /home/ada && rm -rf third-party && python3 -m venv third-party &&
third-party/bin/pip --disable-pip-version-check install --no-cache-dir --verbose attrs
"""


def install() -> str:
    """Return the output of an installation as ada, empty if it failed."""
    command = ["docker", "exec", "--user", "ada", "--env", "HOME=/home/ada", HOST, "sh", "-c", INSTALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@pytest.fixture(scope="module", params=VARIABLES)
def variables(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Provide an image in the registry, and return the variables of a mirror with it."""
    name = request.param
    image = VARIABLES[name]["devpi_server_image"]
    on_host(
        f"docker build --quiet --build-arg REGISTRY={REGISTRY} --target {name} --tag {image} /root/third_party"
        f" && docker push --quiet {image} && docker image rm {image}"
    )
    yield {"devpi_server_image_source": "pull", "devpi_server_volume": f"{name}-data", **VARIABLES[name]}
    on_host(f"docker image rm --force {image} {REGISTRY}/devpi-mirror:test {REGISTRY}/base:test")


def test_deployment(variables: dict[str, Any]) -> None:
    outcome = succeed("devpi.mirror.site", "--diff", variables=variables)
    assert PASSWORD not in outcome.output
    assert succeed("devpi.mirror.site", variables=variables).changed == []


def test_clients_install_packages(variables: dict[str, Any]) -> None:
    assert "http://127.0.0.1:3141/root/pypi/" in install()


def test_reboot(variables: dict[str, Any]) -> None:
    subprocess.run(["docker", "restart", HOST], check=True, capture_output=True)
    until(install, "no package can be installed after a reboot", RECOVERY_LIMIT)


def test_stop(variables: dict[str, Any]) -> None:
    """systemd does not have to kill the unit, and no container remains."""
    on_host("systemctl stop devpi")
    assert on_host("systemctl show --property Result devpi").strip() != "Result=timeout"
    assert on_host("docker ps --all --quiet") == ""
    on_host("systemctl start devpi")
    until(install, "no package can be installed after a restart", RECOVERY_LIMIT)


def test_doctor(variables: dict[str, Any]) -> None:
    outcome = succeed("devpi.mirror.doctor", variables=variables)
    assert "PROBLEM" not in outcome.output
    assert PASSWORD not in outcome.output


def test_backup_is_refused(variables: dict[str, Any]) -> None:
    before = state()
    outcome = run_play("devpi.mirror.backup", variables=variables)
    assert outcome.status != 0
    assert "devpi-export" in outcome.output
    assert outcome.changed == []
    assert state() == before


def test_removal(variables: dict[str, Any]) -> None:
    succeed("devpi.mirror.remove", variables={**variables, **REMOVE_ALL})
    assert on_host("docker ps --all --quiet; find /etc -name '*devpi*'") == ""
    assert f"{variables['devpi_server_volume']}" not in state()
