# SPDX-License-Identifier: GPL-3.0-or-later
"""Prerequisites of the scenarios: a Docker daemon, archives of the mirror's images, and the images of the test hosts."""

from __future__ import annotations

import json
import subprocess

from .environment import CACHE, environment
from .step import Step

DOCKER_DAEMON = "Docker daemon"
IMAGE = "image of the mirror"
IMAGE_7 = "image of the mirror, devpi 7"
# The role prunes dangling images, which a concurrent build would need.
LOCK = "image build"


def test_host(image: str) -> str:
    """Return the name of the step that builds the image of a test host, as in ``systemd:bookworm``."""
    return f"test host {image}"


def prerequisite_steps(test_images: list[str], with_image_7: bool = False) -> list[Step]:
    """Return the steps that provide a Docker daemon, the mirror's images, and those of the test hosts."""

    def play(name: str, playbook: str, needs: tuple[str, ...], seconds: float, **variables: str) -> Step:
        command = ["ansible-playbook", f"tests/prerequisites/{playbook}.yml", "--extra-vars", json.dumps(variables)]
        return Step("prerequisite", name, command, needs, LOCK, seconds)

    def image(name: str, release: str, file: str, needs: str) -> Step:
        return play(name, "mirror_image", (needs,), 50, devpi_server_release=release, file=str(CACHE / file))

    steps = [play(DOCKER_DAEMON, "docker_daemon", (), 40), image(IMAGE, "6", "devpi.tar", DOCKER_DAEMON)]
    if with_image_7:
        steps.append(image(IMAGE_7, "7", "devpi-7.tar", IMAGE))
    for test_image in sorted(set(test_images)):
        target, release = test_image.split(":")
        steps.append(play(test_host(test_image), "test_host", (IMAGE,), 30, target=target, release=release))
    return steps


def build_test_hosts(*test_images: str) -> None:
    """Build the images of test hosts and their prerequisites, one after another. Raises CalledProcessError."""
    env = environment()
    for step in prerequisite_steps(list(test_images)):
        subprocess.run(step.command, cwd=step.folder, env=env, check=True)
