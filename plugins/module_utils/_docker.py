# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``docker`` command of a host, so that no Python library is needed there.

Private to the collection.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule

# Where macOS has the command, which the PATH of a remote command there does not.
DOCKER_FOLDERS = ["/usr/local/bin", "/opt/homebrew/bin"]
# Seconds that a command has. An engine that hangs accepts connections and never answers.
LIMIT = 60.0


def execute(command: Sequence[str], limit: float = LIMIT) -> Tuple[int, str, str]:
    """Return exit code, output and errors of a command, which is killed after ``limit`` seconds."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "", "no answer within %g s" % limit
    return done.returncode, done.stdout, done.stderr


class Docker:
    """The ``docker`` command of the host, which may be missing."""

    def __init__(self, module: AnsibleModule) -> None:
        self._path = module.get_bin_path("docker", opt_dirs=DOCKER_FOLDERS)
        self.error = ""

    def run(self, *args: str) -> Optional[str]:
        """Return what the command prints, or None if it fails, with its last word in ``error``."""
        if self._path is None:
            self.error = "there is no docker command"
            return None
        code, out, err = execute([self._path, *args])
        self.error = err.strip() if code else ""
        return None if code else out.strip()

    def engine(self) -> Dict[str, Any]:
        out = self.run("info", "--format", "{{json .}}")
        info = json.loads(out) if out else {}
        # The command succeeds without an engine too, and then tells of itself alone.
        running = bool(info.get("ServerVersion"))
        errors: List[str] = info.get("ServerErrors") or [self.error]
        return {
            "running": running,
            "version": info.get("ServerVersion") or "",
            "error": "" if running else "; ".join(errors),
            "command": self._path or "",
            "root": info.get("DockerRootDir") or "/var/lib/docker",
            "remaps_users": any("userns" in name or "rootless" in name for name in info.get("SecurityOptions") or []),
            "containers": info.get("Containers") or 0,
            "images": info.get("Images") or 0,
        }

    def container(self, name: str) -> Optional[Dict[str, Any]]:
        out = self.run("container", "inspect", name)
        if out is None:
            return None
        found = json.loads(out)[0]
        return {
            "running": bool(found["State"]["Running"]),
            "image": found["Config"]["Image"],
            "labels": found["Config"].get("Labels") or {},
            "volumes": [mount["Name"] for mount in found.get("Mounts") or [] if mount.get("Type") == "volume"],
            "started": found["State"].get("StartedAt") or "",
            "restart_policy": found["HostConfig"]["RestartPolicy"]["Name"] or "no",
        }

    def images(self, label: str, container: str) -> List[Dict[str, Any]]:
        """Return the tagged images that have a label, newest first, and whether another container than this uses each."""
        form = "{{.Repository}}:{{.Tag}}"
        names = (self.run("image", "ls", "--filter", "label=" + label, "--format", form) or "").split()
        containers = (self.run("ps", "--all", "--format", "{{.Names}} {{.Image}}") or "").split("\n") if names else []
        users = [line.split(" ", 1) for line in containers if line]
        used = {image for name, image in users if name != container}
        return [{"name": name, "is_used_by_others": name in used} for name in names if "<none>" not in name]

    def image_created(self, name: str) -> str:
        """Return when an image was built, in UTC, empty if the engine does not have it."""
        return self.run("image", "inspect", "--format", "{{.Created}}", name) or ""

    def volumes(self, names: List[str]) -> List[str]:
        there = (self.run("volume", "ls", "--quiet") or "").split("\n")
        return [name for name in names if name in there]

    def publisher(self, port: int) -> str:
        return (self.run("ps", "--filter", "publish=%d/tcp" % port, "--format", "{{.Names}}") or "").partition("\n")[0]
