#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_info
short_description: Tell how the mirror of a host is
description:
  - Tells what the mirror is, what it keeps, and whether a person should do something about it.
  - It asks the mirror as a client does, and the program in its container that looks after what it keeps. Of an image that is
    not this collection's own, only the first is told.
extends_documentation_fragment: action_common_attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  url:
    description:
      - The server's address, without an index.
    type: str
    default: http://127.0.0.1:3141
  index:
    description:
      - The index that clients install from, as C(user/index).
    type: str
    default: root/pypi
  container:
    description:
      - The name of its container.
    type: str
    default: devpi
  listener_uid:
    description:
      - As in M(devpi.mirror.devpi_wait).
    type: int
  timeout:
    description:
      - Seconds that the mirror has for an answer.
    type: float
    default: 10
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
- name: See how the mirror is
  devpi.mirror.devpi_info:
  become: true
  register: mirror

- name: Tell somebody
  ansible.builtin.debug:
    msg: "{{ mirror.reasons }}"
  when: mirror.state != 'ok'
"""

RETURN = r"""
state:
  description:
    - V(ok), V(degraded) if a person should do something about it, though what is cached is served, or V(down) if not even that.
  returned: always
  type: str
  sample: degraded
reasons:
  description: Why, a sentence or two for each thing, with what can be done. Empty with V(ok).
  returned: always
  type: list
  elements: str
  sample: ["Its upstream can't be reached: what is cached is served."]
versions:
  description: The versions of devpi-server and its plugins.
  returned: always
  type: dict
  sample: {"devpi-server": "6.20.3"}
image:
  description: The image that its container was made from, V(null) without one.
  returned: always
  type: str
  sample: devpi-mirror:0f3c
image_created:
  description: When that image was built, in UTC, V(null) if it is not known.
  returned: always
  type: str
  sample: "2026-11-01T07:30:00Z"
image_age_days:
  description: The whole days since then, V(null) if it is not known. Updates of Debian's packages come with a new image.
  returned: always
  type: int
  sample: 12
uuid:
  description: The identity of its store, V(null) if it is not known.
  returned: always
  type: str
serial:
  description: The number of changes of its store so far, V(null) if it is not known.
  returned: always
  type: int
  sample: 412
role:
  description: Its role in replication, V(null) if it is not known.
  returned: always
  type: str
  sample: standalone
up_since:
  description: When its container was started, in UTC, V(null) if it does not run.
  returned: always
  type: str
  sample: "2026-11-02T08:00:12Z"
upstream:
  description: Its upstream, V(null) if devpi does not answer.
  returned: always
  type: dict
  contains:
    url:
      description: The URL of its simple page.
      type: str
    reachable:
      description: Whether it answers the mirror.
      type: bool
    error:
      description: What went wrong, if it does not.
      type: str
cache:
  description: The files of mirror indexes, V(null) if devpi does not answer.
  returned: always
  type: dict
  contains:
    files:
      description: How many there are.
      type: int
    bytes:
      description: Their bytes.
      type: int
limits:
  description: Bytes that they may take, seconds that one is kept that nobody uses, and bytes of the database. V(0) is no limit.
  returned: with an image of this collection
  type: dict
  sample: {"size": 21474836480, "age": 0, "database": 0}
requests:
  description:
    - How many answers since its start it had (C(hit), C(stale)) or had not (C(miss)).
    - Prefetching is not counted.
  returned: with an image of this collection
  type: dict
  sample: {"hit": 812, "stale": 40, "miss": 31}
hit_rate:
  description: The part of them that it had, from 0 to 1. V(null) if there were none.
  returned: with an image of this collection
  type: float
  sample: 0.965
store_bytes:
  description: The bytes of devpi's database.
  returned: with an image of this collection
  type: int
removed_projects:
  description: The projects that the upstreams of mirror indexes have removed within a day.
  returned: with an image of this collection
  type: list
  elements: dict
  contains:
    index:
      description: The mirror index, as V(user/index).
      type: str
    project:
      description: The normalized name of the project.
      type: str
    at:
      description: When it was removed.
      type: str
last_scrub:
  description: When all files were last compared with their hashes, and what was found. V(null) if never.
  returned: with an image of this collection
  type: dict
  sample: {"at": "2026-11-01T03:00:00Z", "files": 312, "damaged": 0, "lost": [], "error": ""}
last_backup:
  description: When a backup was last made and seen to work, and its name. V(null) if never.
  returned: with an image of this collection
  type: dict
  sample: {"at": "2026-11-01T03:00:00Z", "file": "devpi-20261101T030000Z.tar"}
disk:
  description: Bytes that are C(free) where it keeps its data, and the C(total).
  returned: with an image of this collection
  type: dict
"""

import calendar
import json
import time
from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.module_utils._docker import Docker
from ansible_collections.devpi.mirror.plugins.module_utils._polling import within

# The label of the image that the devpi_server role builds, which containers have from it.
IMAGE_LABEL = "devpi.mirror.image"
LOOK = ["/opt/devpi/bin/python", "-m", "devpi_mirror.maintenance", "look"]
# What the inspection returns: types, and for objects their keys. An image of another release of the collection can lack a part.
INSPECTION: Dict[str, Any] = {
    "troubles": list,
    "requests": {"hit": int, "stale": int, "miss": int},
    "limits": dict,
    "disk": dict,
    "store_bytes": int,
    "removed_projects": list,
    "scrub": {"at": "moment"},
    "backup": {"at": "moment"},
    "cache": dict,
    "devpi": dict,
    "upstream": {"url": str, "reachable": bool, "error": str},
}
NULLABLE = ("scrub", "backup", "cache", "devpi", "upstream")


def is_moment(value: Any) -> bool:
    """Return whether a value is a number of seconds since the epoch that can be written as a date."""
    try:
        return isinstance(value, (int, float)) and bool(moment(value))
    except (OverflowError, ValueError, OSError):
        return False


def is_like(value: Any, expected: Any) -> bool:
    """Return whether a value has the expected type, is a moment, or is an object whose values are as expected."""
    if expected == "moment":
        return is_moment(value)
    if not isinstance(expected, dict):
        return isinstance(value, expected)
    return isinstance(value, dict) and all(is_like(value.get(key), kind) for key, kind in expected.items())


def lacking(found: Dict[str, Any]) -> List[str]:
    """Return what an inspection lacks, or has in another form."""
    return [
        key
        for key, expected in sorted(INSPECTION.items())
        if key not in found or not (is_like(found[key], expected) or (found[key] is None and key in NULLABLE))
    ]


def is_removal(item: Any) -> bool:
    return is_like(item, {"index": str, "project": str, "at": "moment"})


def moment(seconds: Optional[float]) -> Optional[str]:
    """Return a time (seconds since the epoch) as people write it, in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def in_seconds(text: str) -> str:
    """Return a time as Docker writes it without fractions of a second, as in 2026-11-02T08:00:12Z."""
    return text.split(".")[0].rstrip("Z") + "Z"


def age_days(created: str, now: float) -> Optional[int]:
    """Return the whole days since a time in UTC, None if the text is no time."""
    try:
        return int((now - calendar.timegm(time.strptime(created, "%Y-%m-%dT%H:%M:%SZ"))) // 86400)
    except ValueError:
        return None


def dated(about: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    return None if about is None else dict(about, at=moment(about["at"]))


def from_inside(inside: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the program in the container tells, in the names of this module."""
    devpi = inside["devpi"] or {}
    requests = {name: inside["requests"][name] for name in ("hit", "stale", "miss")}
    total = sum(requests.values())
    return {
        "versions": devpi.get("versions", {}),
        "uuid": devpi.get("uuid"),
        "serial": devpi.get("serial"),
        "role": devpi.get("role"),
        "upstream": inside["upstream"],
        "cache": inside["cache"],
        "limits": inside["limits"],
        "requests": requests,
        "hit_rate": round((total - requests["miss"]) / total, 3) if total else None,
        "store_bytes": inside["store_bytes"],
        "removed_projects": [dated(item) for item in inside["removed_projects"] if is_removal(item)],
        "last_scrub": dated(inside["scrub"]),
        "last_backup": dated(inside["backup"]),
        "disk": inside["disk"],
    }


def from_outside(seen: _devpi.Seen) -> Dict[str, Any]:
    """Return what devpi tells everybody."""
    return {
        "versions": {"devpi-server": seen.version} if seen.version else {},
        "uuid": seen.uuid,
        "serial": seen.serial,
        "role": None,
        "upstream": None,
        "cache": None,
    }


def inspect(docker: Docker, name: str) -> Tuple[Optional[Dict[str, Any]], str]:
    """Run the inspection in the container. Returns what it found, or None and why it failed."""
    output = docker.run("exec", name, *LOOK)
    if output is None:
        return None, docker.error.split("\n")[-1]
    try:
        found: Any = json.loads(output)
    except (ValueError, RecursionError) as exc:
        return None, "its output is not JSON: %s" % exc
    if not isinstance(found, dict):
        return None, "its output is not a JSON object"
    missing = lacking(found)
    return (None, "its output lacks %s" % ", ".join(missing)) if missing else (found, "")


def why(
    engine: Dict[str, Any],
    container: Optional[Dict[str, Any]],
    inside: Optional[Dict[str, Any]],
    failure: str,
    seen: _devpi.Seen,
    name: str,
) -> List[str]:
    """Return what a person should do something about."""
    if not engine["running"]:
        return ["The Docker engine does not answer (%s): start it." % engine["error"]]
    unusable = ["Clients can't use it: %s. %s" % (seen.detail, _devpi.remedy(seen.kind))]
    impostor = unusable if seen.kind == _devpi.OTHER_SERVICE else []
    if container is None:
        return ["There is no container %s: start its service, or run devpi.mirror.site." % name, *impostor]
    if not container["running"]:
        return ["The container %s does not run: start its service, and see its log." % name, *impostor]
    reasons: List[str] = list(inside["troubles"]) if inside else []
    if failure:
        reasons.append("Could not inspect the container %s: %s. See its log." % (name, failure))
    if seen.kind != _devpi.READY and not (inside and inside["devpi"] is None):
        reasons += unusable
    upstream = inside["upstream"] if inside else None
    if upstream and not upstream["reachable"]:
        reasons.append(
            "Its upstream %s can't be reached (%s): what is cached is served, and nothing new comes. Give this host a "
            "network, or set devpi_server_https_proxy, devpi_server_ca_bundle or devpi_server_upstream_url."
            % (upstream["url"], upstream["error"])
        )
    return reasons


def facts(params: Dict[str, Any], docker: Docker, client: _devpi.Client) -> Dict[str, Any]:
    """Collect what there is to tell."""
    engine = docker.engine()
    name = params["container"]
    container = docker.container(name) if engine["running"] else None
    created = docker.image_created(container["image"]) if container else ""
    running = container is not None and container["running"]
    is_own = running and IMAGE_LABEL in (container or {}).get("labels", {})
    inside, failure = inspect(docker, name) if is_own else (None, "")
    limit = params["timeout"]
    seen = within(
        limit,
        lambda: _devpi.look(client.limited(limit), "index", params["index"], "", params["listener_uid"]),
        _devpi.Seen(_devpi.TOO_SLOW, "no answer in time"),
    )
    reasons = why(engine, container, inside, failure, seen, name)
    # nginx in this collection's image serves while devpi does not.
    serves = running and (inside is not None or seen.kind == _devpi.READY)
    result = from_inside(inside) if inside else from_outside(seen)
    result.update(
        state="down" if not serves else "degraded" if reasons else "ok",
        reasons=reasons,
        image=container["image"] if container else None,
        image_created=in_seconds(created) if created else None,
        image_age_days=age_days(in_seconds(created), time.time()),
        up_since=in_seconds(container["started"]) if container and running else None,
    )
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:3141"},
            "index": {"type": "str", "default": "root/pypi"},
            "container": {"type": "str", "default": "devpi"},
            "listener_uid": {"type": "int"},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        index = _devpi.check_index(module.params["index"])
        client = _devpi.Client(module.params["url"])
    except ValueError as exc:
        module.fail_json(msg="url, index: %s" % exc)
    module.exit_json(changed=False, **facts(dict(module.params, index=index), Docker(module), client))


if __name__ == "__main__":
    main()
