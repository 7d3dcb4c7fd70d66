# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the ``docker`` command of the host, so that the host needs no Python library.

Private to the collection.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from typing import Any, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _command

# Where the command is on macOS. The PATH of a remote command does not include these directories there.
DOCKER_FOLDERS = ["/usr/local/bin", "/opt/homebrew/bin"]
# Seconds per command. A daemon that hangs accepts connections and never responds.
TIMEOUT = 60.0
# The host's own daemon. DOCKER_HOST takes precedence over Docker contexts. The other variables select TLS.
DAEMON_VARIABLES = {"DOCKER_HOST": "unix:///var/run/docker.sock", "DOCKER_TLS": "", "DOCKER_TLS_VERIFY": ""}


def daemon_environment(system: str) -> dict[str, str]:
    """Return the variables with which ``docker`` commands use the daemon of the host. ``system`` is ``platform.system()``.

    The service that runs the mirror uses that daemon, so on Linux, commands use no other one. On macOS, the daemon belongs to a
    user, and DOCKER_HOST is how the playbook finds it.
    """
    return {} if system == "Darwin" else dict(DAEMON_VARIABLES)


def execute(command: Sequence[str], timeout: float = TIMEOUT) -> tuple[int, str, str]:
    """Return the exit code, the output and the errors of a command, which is killed after ``timeout`` seconds."""
    try:
        environment = {**os.environ, **daemon_environment(platform.system())}
        return _command.execute(command, environment, timeout)
    except subprocess.TimeoutExpired:
        return 1, "", f"no response within {timeout:g} s"


class Docker:
    """The ``docker`` command of the host, which may be missing."""

    def __init__(self, module: AnsibleModule) -> None:
        self._path = module.get_bin_path("docker", opt_dirs=DOCKER_FOLDERS)
        self.error = ""

    def run(self, *args: str) -> str | None:
        """Return the output of the command, or None if it fails. Then ``error`` has its error output."""
        if self._path is None:
            self.error = "the docker command is not installed"
            return None
        code, out, err = execute([self._path, *args])
        self.error = err.strip() if code else ""
        return None if code else out.strip()

    def engine(self) -> dict[str, Any]:
        """Return the state of the Docker daemon."""
        out = self.run("info", "--format", "{{json .}}")
        info = json.loads(out) if out else {}
        # Without a daemon the command can succeed, and describes the client only.
        running = bool(info.get("ServerVersion"))
        errors: list[str] = info.get("ServerErrors") or [self.error]
        return {
            "running": running,
            "version": info.get("ServerVersion") or "",
            "error": "" if running else "; ".join(errors),
            "command": self._path or "",
            "environment": daemon_environment(platform.system()),
            "root": info.get("DockerRootDir") or "/var/lib/docker",
            "remaps_users": any("userns" in name or "rootless" in name for name in info.get("SecurityOptions") or []),
            "containers": info.get("Containers") or 0,
            "images": info.get("Images") or 0,
        }

    def container(self, name: str) -> dict[str, Any] | None:
        """Return the state of a container, or None if it does not exist."""
        out = self.run("container", "inspect", name)
        if out is None:
            return None
        state = json.loads(out)[0]
        return {
            "running": bool(state["State"]["Running"]),
            "image": state["Config"]["Image"],
            "labels": state["Config"].get("Labels") or {},
            "volumes": [mount["Name"] for mount in state.get("Mounts") or [] if mount.get("Type") == "volume"],
            "started": state["State"].get("StartedAt") or "",
            "restart_policy": state["HostConfig"]["RestartPolicy"]["Name"] or "no",
        }

    def images(self, label: str, container: str) -> list[dict[str, Any]]:
        """Return the tagged images that have a label, newest first, and whether a container other than this uses each."""
        template = "{{.Repository}}:{{.Tag}}"
        names = (self.run("image", "ls", "--filter", "label=" + label, "--format", template) or "").split()
        containers = (self.run("ps", "--all", "--format", "{{.Names}} {{.Image}}") or "").split("\n") if names else []
        pairs = [line.split(" ", 1) for line in containers if line]
        used = {image for name, image in pairs if name != container}
        return [{"name": name, "is_used_by_others": name in used} for name in names if "<none>" not in name]

    def image_created(self, name: str) -> str:
        """Return when an image was built, in UTC, empty if it does not exist."""
        return self.run("image", "inspect", "--format", "{{.Created}}", name) or ""

    def volumes(self, names: list[str]) -> list[str]:
        """Return those of the named volumes that exist."""
        existing = (self.run("volume", "ls", "--quiet") or "").split("\n")
        return [name for name in names if name in existing]

    def publisher(self, port: int) -> str:
        """Return the name of the container that publishes a port, empty if there is none."""
        names = self.run("ps", "--filter", f"publish={port}/tcp", "--format", "{{.Names}}") or ""
        return names.partition("\n")[0]
