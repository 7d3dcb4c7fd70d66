# SPDX-License-Identifier: GPL-3.0-or-later
"""Imitations of two third-party images, pulled by their names from a registry, from the deployment of a mirror to its removal.

Each test relies on those before it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import HOST, RECOVERY_LIMIT, UPSTREAM_ADDRESS, UPSTREAM_PORT, boot, on_host, shut_down, until
from plays import REMOVE_ALL, run_play, state, succeed

REGISTRY = "127.0.0.1:5000"
PASSWORD = "not in any output"
# As in docs/operations.md.
IMAGES: dict[str, dict[str, Any]] = {
    "scrapinghub": {
        "devpi_server_image": f"{REGISTRY}/scrapinghub/devpi",
        "devpi_server_image_data_path": "/mnt",
    },
    "jonasal": {
        "devpi_server_image": f"{REGISTRY}/jonasal/devpi-server:6.20.3",
        "devpi_server_image_data_path": "/devpi/server",
        "devpi_server_options": {"request-timeout": 60},
    },
}
COMMON_VARIABLES = {
    "devpi_server_image_source": "pull",
    "devpi_server_image_user": "",
    "devpi_server_image_read_only": False,
    "devpi_server_environment": {"DEVPI_PASSWORD": PASSWORD},
    # The test upstream has no pip.
    "devpi_server_wait_project": "alpha",
    "pip_client_find_users": False,
    "pip_client_users": ["ada"],
}
BUILD = """set -e
docker build --quiet --build-arg REGISTRY={registry} --build-arg UPSTREAM={upstream} --target {name} --tag {image} \
    /root/third_party
docker push --quiet {image}
docker image rm {image}
"""
# With Debian's wheel of pip, as the host has no other pip.
INSTALL = """
export PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl)
python3 -m pip install --no-cache-dir --no-compile --target "$(mktemp -d)" --verbose alpha
"""


def install() -> str:
    """Return the output of an installation as ada, empty if it failed."""
    command = ["docker", "exec", "--user", "ada", "--env", "HOME=/home/ada", HOST, "sh", "-c", INSTALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@pytest.fixture(scope="module", autouse=True)
def pushed_images() -> Iterator[None]:
    """Build the images and push them to the registry."""
    upstream = f"http://{UPSTREAM_ADDRESS}:{UPSTREAM_PORT}/simple/"
    for name, variables in IMAGES.items():
        image = variables["devpi_server_image"]
        on_host(BUILD.format(registry=REGISTRY, upstream=upstream, name=name, image=image))
    yield
    on_host("docker image prune --all --force")


@pytest.fixture(scope="module", params=IMAGES)
def variables(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the variables of a mirror with one of the images."""
    return {**COMMON_VARIABLES, **IMAGES[request.param], "devpi_server_volume": f"{request.param}-data"}


def test_deployment(variables: dict[str, Any]) -> None:
    """The playbook waits until a package can be downloaded, and does not print the password."""
    outcome = succeed("devpi.mirror.site", "--diff", variables=variables)
    assert PASSWORD not in outcome.output
    assert on_host("docker ps --format '{{.Names}} {{.Image}}'").split() == ["devpi", variables["devpi_server_image"]]


def test_clients_install_packages(variables: dict[str, Any]) -> None:
    assert "Downloading http://127.0.0.1:3141/root/pypi/" in install()


def test_reboot(variables: dict[str, Any]) -> None:
    shut_down()
    boot()
    until(install, "no package can be installed after a reboot", RECOVERY_LIMIT)


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


def test_stop(variables: dict[str, Any]) -> None:
    """The service stops in time and does not count as failed, although a signal ends the container."""
    started = time.monotonic()
    on_host("systemctl stop devpi")
    seconds = time.monotonic() - started
    print(f"The stop took {seconds:.1f} s", flush=True)
    assert on_host("systemctl show --property ActiveState,Result devpi").split() == [
        "Result=success",
        "ActiveState=inactive",
    ]
    assert on_host("docker ps --all --quiet") == ""
    on_host("systemctl start devpi")


def test_removal(variables: dict[str, Any]) -> None:
    succeed("devpi.mirror.remove", variables={**variables, **REMOVE_ALL})
    assert (
        on_host("docker ps --all --quiet; find /etc -name '*devpi*'; systemctl list-units --all --quiet 'devpi*'") == ""
    )
    assert not [line for line in state() if "devpi" in line or variables["devpi_server_volume"] in line]
