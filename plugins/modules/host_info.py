#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Tell what a host looks like to the roles of this collection
description:
  - Tells, in one round trip, which init system runs, whether a Docker engine answers, what it has of an image and of a
    container, who listens on a port, and how much room there is.
  - It looks with the C(docker) command, so that it needs no Python library.
extends_documentation_fragment: action_common_attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  port:
    description:
      - Tell who listens on this TCP port.
    type: int
  addresses:
    description:
      - The IP addresses that O(port) is wanted on.
    type: list
    elements: str
    default: [127.0.0.1]
  path:
    description:
      - Tell how much room there is where this path is, or would be once it is made.
      - Without it, it is the folder that the engine keeps its data in.
    type: path
  container:
    description:
      - Tell about the container of this name.
    type: str
  image:
    description:
      - Tell whether the engine has this image.
    type: str
  image_label:
    description:
      - Return the images that have this label.
    type: str
  volumes:
    description:
      - Tell which of these volumes the engine has.
    type: list
    elements: str
    default: []
  existing_paths:
    description:
      - Tell which of these paths exist. They can be patterns, as of a shell.
    type: list
    elements: path
    default: []
  file_contents:
    description:
      - Tell what these files say. They are expected to be small. The paths can be patterns, as of a shell.
    type: list
    elements: path
    default: []
  file_stats:
    description:
      - Tell owner, mode and checksum of these files. They are expected to be small.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: See whether the mirror's port is free, and who runs the show
  devpi.mirror.host_info:
    port: 3141
    container: devpi
  register: host
"""

RETURN = r"""
init:
  description:
    - The init system that runs. V(none) where PID 1 is no init system, as in most containers, and the name of PID 1 where
      it is one that this module knows nothing else of.
  returned: always
  type: str
  sample: systemd
python:
  description: The version of the Python that Ansible uses there, without its last part.
  returned: always
  type: str
  sample: "3.13"
engine:
  description: The Docker engine.
  returned: always
  type: dict
  contains:
    running:
      description: Whether it answers.
      type: bool
    version:
      description: Its version, empty if it does not answer.
      type: str
    error:
      description: What the C(docker) command said, if the engine does not answer.
      type: str
    command:
      description: The path of the C(docker) command, empty if there is none.
      type: str
    root:
      description: The folder that it keeps its data in.
      type: str
    remaps_users:
      description: Whether users in containers are other users of the host (user namespaces, rootless mode).
      type: bool
    containers:
      description: The number of containers that it has.
      type: int
    images:
      description: The number of images that it has.
      type: int
listener:
  description: The process that listens on O(port), V(null) if none does.
  returned: with O(port)
  type: dict
  contains:
    address:
      description: The IP address that it listens on.
      type: str
    uid:
      description: The UID of the user who created the socket.
      type: int
    pid:
      description: Its process ID, V(null) if the user who runs the module can't see it.
      type: int
    program:
      description: Its name, V(null) if the user who runs the module can't see it.
      type: str
    is_engine:
      description: Whether it belongs to Docker, which listens for its containers.
      type: bool
  sample: {"address": "127.0.0.1", "uid": 0, "pid": 412, "program": "nginx", "is_engine": false}
publisher:
  description: The name of the container that has O(port) published, empty if none has.
  returned: with O(port)
  type: str
  sample: devpi
existing_paths:
  description: Those of O(existing_paths) that exist, or that match and exist.
  returned: always
  type: list
  elements: str
  sample: [/etc/ssl/certs/ca-certificates.crt]
file_contents:
  description: What the files of O(file_contents) say, by path, without those that do not exist.
  returned: always
  type: dict
  sample: {"/etc/systemd/system/devpi.service": "[Unit]..."}
file_stats:
  description: The files of O(file_stats) by path, without those that do not exist.
  returned: always
  type: dict
  sample: {"/etc/devpi-mirror.sh": {"mode": "0644", "owner": 0, "sha256": "0f3c..."}}
disk_free:
  description: Bytes that are free.
  returned: always
  type: int
  sample: 52428800000
volumes:
  description: Those of O(volumes) that the engine has.
  returned: always
  type: list
  elements: str
  sample: [devpi-data]
image_present:
  description: Whether the engine has O(image).
  returned: with O(image)
  type: bool
images:
  description: The tagged images that have the label O(image_label), newest first.
  returned: with O(image_label)
  type: list
  elements: dict
  contains:
    name:
      description: The name, with its tag.
      type: str
    is_used_by_others:
      description: Whether a container other than O(container) was made from it, also one that is stopped.
      type: bool
  sample: [{"name": "devpi-mirror:0f3c-2026-11", "is_used_by_others": false}]
container:
  description: The container, V(null) if there is none of that name.
  returned: with O(container)
  type: dict
  contains:
    running:
      description: Whether it runs.
      type: bool
    image:
      description: The image that it was made from.
      type: str
    labels:
      description: Its labels.
      type: dict
    volumes:
      description: The names of the volumes that it has.
      type: list
      elements: str
    started:
      description: When it was started last, in UTC, empty if never.
      type: str
    restart_policy:
      description: The restart policy that Docker applies to it, V(no) if none.
      type: str
  sample: {"running": true, "image": "devpi-mirror:0f3c", "volumes": ["devpi-data"], "labels": {}}
"""

import platform
from dataclasses import asdict
from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _host
from ansible_collections.devpi.mirror.plugins.module_utils._docker import Docker
from ansible_collections.devpi.mirror.plugins.module_utils._polling import Pace, poll

# What listens for containers: with the engine's userland-proxy, and without it.
ENGINE_PROGRAMS = ("docker-proxy", "dockerd")
# Seconds that a container is given to start or end.
ENGINE_PATIENCE = 15.0


def is_engine(listener: _host.Listener) -> bool:
    """Return whether a process belongs to Docker."""
    return listener.program in ENGINE_PROGRAMS


def who_has(port: int, addresses: List[str], docker: Docker) -> Tuple[Optional[_host.Listener], str]:
    """Return who listens on a port, and the name of the container that has it published, empty if none has.

    While a container starts or ends, the engine listens for it already, or still, and does not list it.
    """

    def look(_seconds: float) -> Tuple[Optional[_host.Listener], str]:
        return _host.listener(port, addresses), docker.publisher(port)

    def is_settled(seen: Tuple[Optional[_host.Listener], str]) -> bool:
        listener, publisher = seen
        return publisher != "" or listener is None or not is_engine(listener)

    return poll(look, is_settled, lambda seen: False, lambda seen: False, Pace(timeout=ENGINE_PATIENCE)).result


def facts(params: Dict[str, Any], docker: Docker) -> Dict[str, Any]:
    """Collect what was asked for."""
    engine = docker.engine()
    result: Dict[str, Any] = {
        "init": _host.init_system(system=platform.system()),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "engine": engine,
        "existing_paths": _host.existing_paths(params["existing_paths"]),
        "file_contents": _host.file_contents(params["file_contents"]),
        "file_stats": _host.file_stats(params["file_stats"]),
        "volumes": docker.volumes(params["volumes"]) if engine["running"] and params["volumes"] else [],
        "disk_free": _host.disk_free(params["path"] or engine["root"]),
    }
    if params["port"] is not None:
        if engine["running"]:
            found, result["publisher"] = who_has(params["port"], params["addresses"], docker)
        else:
            found, result["publisher"] = _host.listener(params["port"], params["addresses"]), ""
        result["listener"] = None if found is None else dict(asdict(found), is_engine=is_engine(found))
    if params["image"] is not None:
        result["image_present"] = engine["running"] and docker.run("image", "inspect", params["image"]) is not None
    if params["image_label"] is not None:
        own = params["container"] or ""
        result["images"] = docker.images(params["image_label"], own) if engine["running"] else []
    if params["container"] is not None:
        result["container"] = docker.container(params["container"]) if engine["running"] else None
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int"},
            "addresses": {"type": "list", "elements": "str", "default": ["127.0.0.1"]},
            "path": {"type": "path"},
            "container": {"type": "str"},
            "image": {"type": "str"},
            "image_label": {"type": "str"},
            "volumes": {"type": "list", "elements": "str", "default": []},
            "file_contents": {"type": "list", "elements": "path", "default": []},
            "file_stats": {"type": "list", "elements": "path", "default": []},
            "existing_paths": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **facts(module.params, Docker(module)))


if __name__ == "__main__":
    main()
