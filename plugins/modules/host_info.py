#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Gather the state of a host that the roles of this collection need
description:
  - Gathers in one call which init system and which Docker daemon run, the state of an image, a container, volumes, files and
    a port, and the free disk space.
  - Uses the C(docker) command, so the host needs no Python library. On Linux, E(DOCKER_HOST), E(DOCKER_CONTEXT) and the
    variables of TLS connections are ignored, as the mirror runs on the host's own Docker daemon.
extends_documentation_fragment: devpi.mirror.attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  port:
    description:
      - A TCP port. The module returns the process that listens on it.
    type: int
  addresses:
    description:
      - The IP addresses on which O(port) must be free.
    type: list
    elements: str
    default: [127.0.0.1]
  path:
    description:
      - A path in the file system whose free space is returned. It does not need to exist.
      - By default, it is the directory that has the data of the Docker daemon.
    type: path
  container:
    description:
      - The name of a container whose state is returned.
    type: str
  image:
    description:
      - The name of an image. The module returns whether it exists.
    type: str
  image_label:
    description:
      - A label. The module returns the images that have it.
    type: str
  volumes:
    description:
      - The names of volumes. The module returns those that exist.
    type: list
    elements: str
    default: []
  existing_paths:
    description:
      - Paths, which can be shell patterns. The module returns those that exist.
    type: list
    elements: path
    default: []
  file_contents:
    description:
      - The paths of small files, which can be shell patterns. The module returns their contents.
    type: list
    elements: path
    default: []
  file_checksums:
    description:
      - The paths of small files. The module returns their checksums.
    type: list
    elements: path
    default: []
  users:
    description:
      - Names of users. The module returns those that exist.
    type: list
    elements: str
    default: []
  group:
    description:
      - The name of a group whose members are returned.
    type: str
  systemd_units:
    description:
      - The names of systemd units. The module returns those that are enabled and active.
    type: list
    elements: str
    default: []
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Gather the init system, and whether the port of the mirror is free
  devpi.mirror.host_info:
    port: 3141
    container: devpi
  register: host
"""

RETURN = r"""
init:
  description:
    - The running init system. V(none) if PID 1 is not an init system, as in most containers, and the name of PID 1 if it is
      an init system that the collection does not support.
  returned: always
  type: str
  sample: systemd
python:
  description: The major and the minor version of the Python that Ansible uses on the host.
  returned: always
  type: str
  sample: "3.13"
engine:
  description: The Docker daemon.
  returned: always
  type: dict
  contains:
    running:
      description: Whether it responds.
      type: bool
    version:
      description: Its version, empty if it does not respond.
      type: str
    error:
      description: The error of the C(docker) command if the daemon does not respond.
      type: str
    command:
      description: The path of the C(docker) command, empty if it is not installed.
      type: str
    environment:
      description: The environment variables with which C(docker) commands use this daemon. Empty on macOS.
      type: dict
    root:
      description: The directory that has the data of the daemon.
      type: str
    remaps_users:
      description: Whether UIDs in containers differ from those on the host (user namespaces, rootless mode).
      type: bool
    containers:
      description: The number of containers.
      type: int
    images:
      description: The number of images.
      type: int
listener:
  description: The process that listens on O(port), V(null) if there is none.
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
      description: Its process ID, V(null) if the user who runs the module may not read it.
      type: int
    program:
      description: Its name, V(null) if the user who runs the module may not read it.
      type: str
    is_engine:
      description: Whether it is a process of Docker, which listens on the published ports of containers.
      type: bool
  sample: {"address": "127.0.0.1", "uid": 0, "pid": 412, "program": "nginx", "is_engine": false}
publisher:
  description: The name of the container that publishes O(port), empty if there is none.
  returned: with O(port)
  type: str
  sample: devpi
existing_paths:
  description: The paths of O(existing_paths) that exist, and those that match its patterns.
  returned: always
  type: list
  elements: str
  sample: [/etc/ssl/certs/ca-certificates.crt]
file_contents:
  description: The contents of the files of O(file_contents) that exist, by path.
  returned: always
  type: dict
  sample: {"/etc/systemd/system/devpi.service": "[Unit]..."}
file_checksums:
  description: The SHA-256 of the files of O(file_checksums) that exist, by path.
  returned: always
  type: dict
  sample: {"/etc/ssl/certs/ca-certificates.crt": "0f3c..."}
users:
  description: The users of O(users) that exist, including those of directories such as LDAP.
  returned: always
  type: list
  elements: str
  sample: [ada]
group_members:
  description: The users whose additional groups include O(group), empty if the group does not exist.
  returned: with O(group)
  type: list
  elements: str
  sample: [ada]
systemd_units:
  description: The units of O(systemd_units) that are enabled and active. Empty if systemd is not the init system.
  returned: always
  type: list
  elements: str
  sample: [devpi.service]
mirrors:
  description: The mirrors that the role P(devpi.mirror.devpi_server#role) has deployed on the host.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The name of the mirror's container.
      type: str
    image:
      description: The name of its image.
      type: str
  sample: [{"name": "devpi", "image": "devpi-mirror:0f3c-2026-11"}]
memory:
  description: The bytes of the host's memory, V(0) if they are unknown, as on macOS.
  returned: always
  type: int
  sample: 16509190144
disk_free:
  description: The free bytes of the file system that has O(path).
  returned: always
  type: int
  sample: 52428800000
volumes:
  description: The volumes of O(volumes) that exist.
  returned: always
  type: list
  elements: str
  sample: [devpi-data]
image_present:
  description: Whether O(image) exists.
  returned: with O(image)
  type: bool
images:
  description: The tagged images that have the label O(image_label), newest first.
  returned: with O(image_label)
  type: list
  elements: dict
  contains:
    name:
      description: The name with the tag.
      type: str
    is_used_by_others:
      description: Whether a running or stopped container other than O(container) uses it.
      type: bool
  sample: [{"name": "devpi-mirror:0f3c-2026-11", "is_used_by_others": false}]
container:
  description: The container, V(null) if it does not exist.
  returned: with O(container)
  type: dict
  contains:
    running:
      description: Whether it is running.
      type: bool
    image:
      description: The name of its image.
      type: str
    labels:
      description: Its labels.
      type: dict
    volumes:
      description: The names of its volumes.
      type: list
      elements: str
    started:
      description: When it was last started, in UTC, empty if never.
      type: str
    restart_policy:
      description: Its restart policy, V(no) if it has none.
      type: str
  sample: {"running": true, "image": "devpi-mirror:0f3c", "volumes": ["devpi-data"], "labels": {}}
"""

import platform
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _host
from ansible_collections.devpi.mirror.plugins.module_utils._docker import Docker
from ansible_collections.devpi.mirror.plugins.module_utils._polling import Backoff, poll

# The processes that listen on published ports: with Docker's userland proxy, and without it.
ENGINE_PROGRAMS = ("docker-proxy", "dockerd")
# The seconds after which a container that starts or stops is expected to be listed correctly.
CONTAINER_TIMEOUT = 15.0


def is_engine(listener: _host.Listener) -> bool:
    """Return whether a process belongs to Docker."""
    return listener.program in ENGINE_PROGRAMS


def port_users(port: int, addresses: list[str], docker: Docker) -> tuple[_host.Listener | None, str]:
    """Return the process that listens on a port, and the name of the container that publishes it, empty if there is none.

    While a container starts or stops, Docker listens on its ports and does not list it.
    """

    def probe(_limit: float) -> tuple[_host.Listener | None, str]:
        return _host.listener(port, addresses), docker.publisher(port)

    def is_consistent(users: tuple[_host.Listener | None, str]) -> bool:
        listener, publisher = users
        return publisher != "" or listener is None or not is_engine(listener)

    return poll(probe, is_consistent, Backoff(timeout=CONTAINER_TIMEOUT)).result


def gather(params: dict[str, Any], docker: Docker) -> dict[str, Any]:
    """Return the return values of the module."""
    engine = docker.engine()
    init = _host.init_system(system=platform.system())
    values: dict[str, Any] = {
        "init": init,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "engine": engine,
        "existing_paths": _host.existing_paths(params["existing_paths"]),
        "file_contents": _host.file_contents(params["file_contents"]),
        "file_checksums": _host.file_checksums(params["file_checksums"]),
        "users": _host.existing_users(params["users"]),
        "systemd_units": _host.running_units(params["systemd_units"]) if init == "systemd" else [],
        "mirrors": _host.mirrors(),
        "volumes": docker.volumes(params["volumes"]) if engine["running"] and params["volumes"] else [],
        "memory": _host.memory(),
        "disk_free": _host.disk_free(params["path"] or engine["root"]),
    }
    if params["group"] is not None:
        values["group_members"] = _host.group_members(params["group"])
    if params["port"] is not None:
        if engine["running"]:
            listener, values["publisher"] = port_users(params["port"], params["addresses"], docker)
        else:
            listener, values["publisher"] = _host.listener(params["port"], params["addresses"]), ""
        values["listener"] = None if listener is None else dict(asdict(listener), is_engine=is_engine(listener))
    if params["image"] is not None:
        values["image_present"] = engine["running"] and docker.run("image", "inspect", params["image"]) is not None
    if params["image_label"] is not None:
        own = params["container"] or ""
        values["images"] = docker.images(params["image_label"], own) if engine["running"] else []
    if params["container"] is not None:
        values["container"] = docker.container(params["container"]) if engine["running"] else None
    return values


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
            "file_checksums": {"type": "list", "elements": "path", "default": []},
            "existing_paths": {"type": "list", "elements": "path", "default": []},
            "users": {"type": "list", "elements": "str", "default": []},
            "group": {"type": "str"},
            "systemd_units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **gather(module.params, Docker(module)))


if __name__ == "__main__":
    main()
