#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_info
short_description: Report the health of a devpi mirror
description:
  - Reports the state of the mirror on a host, its contents, and the problems that need attention.
  - Sends the requests of a client to the mirror, and runs the maintenance program in its container. With a third-party image,
    the results of the maintenance program are missing.
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
  - devpi.mirror.probe
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  container:
    description:
      - The name of the mirror's container.
    type: str
    default: devpi
attributes:
  diff_mode:
    support: none
seealso:
  - module: devpi.mirror.devpi_wait
"""

EXAMPLES = r"""
- name: Gather the health of the mirror
  devpi.mirror.devpi_info:
  become: true
  register: mirror

- name: Print problems
  ansible.builtin.debug:
    msg: "{{ mirror.reasons }}"
  when: mirror.state != 'ok'
"""

RETURN = r"""
state:
  description:
    - V(ok), V(degraded) if there are problems that need attention while cached packages are served, or V(down) if no packages
      are served.
  returned: always
  type: str
  sample: degraded
reasons:
  description: The problems, each with its solution. Empty if the state is V(ok).
  returned: always
  type: list
  elements: str
  sample: ["Its upstream is unreachable. Cached packages are served."]
versions:
  description: The versions of devpi-server and its plugins.
  returned: always
  type: dict
  sample: {"devpi-server": "6.20.3"}
image:
  description: The image of its container, V(null) if the container does not exist.
  returned: always
  type: str
  sample: devpi-mirror:0f3c
image_created:
  description: When that image was built, in UTC, V(null) if unknown.
  returned: always
  type: str
  sample: "2026-11-01T07:30:00Z"
image_age_days:
  description:
    - The age of the image in whole days, V(null) if unknown. Security updates of Debian's packages require a new image.
  returned: always
  type: int
  sample: 12
uuid:
  description: The UUID of its database, V(null) if unknown.
  returned: always
  type: str
serial:
  description: The serial number of the last change in its database, V(null) if unknown.
  returned: always
  type: int
  sample: 412
role:
  description: Its role in replication, V(standalone), V(primary) or V(replica). V(null) if unknown.
  returned: always
  type: str
  sample: standalone
replication:
  description:
    - The state of the replication, V(null) if it is a standalone server, or if devpi does not respond.
    - A primary has the keys C(role), C(serial) and C(replicas). A replica has all others.
  returned: with an image of this collection
  type: dict
  contains:
    role:
      description: The same as RV(role).
      type: str
    serial:
      description: The same as RV(serial).
      type: int
    replicas:
      description: The replicas that have requested changes since the start of the primary.
      type: list
      elements: dict
      contains:
        uuid:
          description: The UUID of the replica's database.
          type: str
        address:
          description: The IP address of the replica.
          type: str
        serial:
          description: The serial number of the last change that the replica has.
          type: int
        last_request:
          description: When it last requested changes, in UTC.
          type: str
    primary_url:
      description: The URL of the primary without credentials.
      type: str
    primary_error:
      description: Why the primary is unreachable, empty if it is reachable.
      type: str
    primary_serial:
      description: The serial number of the last change on the primary. V(null) if unknown.
      type: int
    lag:
      description: The number of changes on the primary that the replica does not have. V(null) if unknown.
      type: int
    last_in_sync:
      description: When it last had all changes and private files, in UTC. V(null) if never since its start.
      type: str
    last_update:
      description: When it last received a response to its request for changes, in UTC. V(null) if never since its start.
      type: str
    errors:
      description: The files that could not be replicated, at most 100, each with its path (C(file)) and the error (C(error)).
      type: list
      elements: dict
    error_count:
      description: The number of files that could not be replicated.
      type: int
    clock_offset:
      description:
        - By how many seconds its clock is ahead of that of the primary, negative if it is behind. Half a second off. V(null) if
          the primary does not respond.
      type: float
  sample: {"role": "primary", "serial": 412, "replicas": []}
up_since:
  description: When its container was started, in UTC, V(null) if it is not running.
  returned: always
  type: str
  sample: "2026-11-02T08:00:12Z"
upstream:
  description: Its upstream, V(null) if devpi does not respond.
  returned: always
  type: dict
  contains:
    url:
      description: The URL of the upstream's simple page.
      type: str
    reachable:
      description: Whether the mirror gets responses from the upstream.
      type: bool
    error:
      description: The error if it is unreachable.
      type: str
fallback:
  description:
    - The upstream that C(root/pypi) uses while its own is unreachable, see
      O(devpi.mirror.devpi_server#role:main:devpi_server_upstream_fallback).
    - V(null) if there is none, or if devpi does not respond.
  returned: with an image of this collection
  type: dict
  contains:
    url:
      description: The URL of the fallback's simple page.
      type: str
    reachable:
      description: Whether the mirror gets responses from the fallback.
      type: bool
    error:
      description: The error if it is unreachable.
      type: str
    in_use:
      description: Whether it is used now, as the upstream is unreachable.
      type: bool
mirrors:
  description: The upstreams of the mirror indexes besides C(root/pypi), V(null) if devpi does not respond.
  returned: with an image of this collection
  type: list
  elements: dict
  contains:
    index:
      description: The mirror index, as V(user/index).
      type: str
    url:
      description: The URL of the upstream's simple page.
      type: str
    reachable:
      description: Whether the mirror gets responses from the upstream.
      type: bool
    error:
      description: The error if it is unreachable.
      type: str
cache:
  description: The cached files of mirror indexes, V(null) if devpi does not respond.
  returned: always
  type: dict
  contains:
    files:
      description: The number of files.
      type: int
    bytes:
      description: Their size in bytes.
      type: int
limits:
  description:
    - The maximum size of the cached files in bytes, the number of seconds after which unused ones are evicted, and the
      maximum size of the database in bytes. V(0) is no limit.
  returned: with an image of this collection
  type: dict
  sample: {"size": 21474836480, "age": 0, "database": 0}
requests:
  description:
    - The number of cache hits (C(hit)), of stale responses from the cache (C(stale)), and of cache misses (C(miss)) since its
      start.
    - Prefetching is not counted.
  returned: with an image of this collection
  type: dict
  sample: {"hit": 812, "stale": 40, "miss": 31}
hit_rate:
  description: The proportion of responses from the cache, from 0 to 1. V(null) if there were no requests.
  returned: with an image of this collection
  type: float
  sample: 0.965
database_bytes:
  description: The size of devpi's database in bytes.
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
      description: When it was removed, in UTC.
      type: str
hidden:
  description: The files that package policies hide. V(null) if the image is of a release without package policies.
  returned: with an image of this collection
  type: dict
  contains:
    count:
      description: The number of files.
      type: int
    files:
      description: The files, at most 1000.
      type: list
      elements: dict
      contains:
        index:
          description: The mirror index, as V(user/index).
          type: str
        project:
          description: The normalized name of the project.
          type: str
        filename:
          description: The name of the file.
          type: str
        rule:
          description: The rule that hides it.
          type: str
          sample: "min_release_age: 7d"
        available_at:
          description: When it becomes available, in UTC. V(null) if a rule hides it at any time.
          type: str
last_scrub:
  description: When all files were last compared with their hashes, and the result. V(null) if never.
  returned: with an image of this collection
  type: dict
  sample: {"at": "2026-11-01T03:00:00Z", "files": 312, "damaged": 0, "lost": [], "error": ""}
last_backup:
  description: When the last verified backup was created, its name, and whether it is a scheduled one. V(null) if never.
  returned: with an image of this collection
  type: dict
  sample: {"at": "2026-11-01T03:00:00Z", "file": "devpi-20261101T030000Z.tar", "scheduled": true}
certificate_expires:
  description: When the TLS certificate expires, in UTC. V(null) if the mirror does not serve over TLS.
  returned: with an image of this collection
  type: str
  sample: "2027-01-29T12:00:00Z"
disk:
  description: The free bytes (C(free)) and the size (C(total)) of the file system that has its data directory.
  returned: with an image of this collection
  type: dict
"""

import calendar
import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.module_utils._docker import Docker
from ansible_collections.devpi.mirror.plugins.module_utils._polling import within

# The label of images that the devpi_server role builds. Their containers inherit it.
IMAGE_LABEL = "devpi.mirror.image"
INSPECT_COMMAND = ["/opt/devpi/bin/python", "-m", "devpi_mirror.maintenance", "status"]
UPSTREAM = {"url": str, "reachable": bool, "error": str}
# The types of the values that describe a replica, and its primary.
REPLICA = {
    "at": "timestamp",
    "serial": int,
    "primary_serial": (int, type(None)),
    "started_at": "timestamp or null",
    "updated_at": "timestamp or null",
    "in_sync_at": "timestamp or null",
    "error_count": int,
    "errors": list,
    "primary": {"url": str, "error": str, "date": str, "sent": "timestamp", "received": "timestamp"},
}
# devpi's own limits in seconds: without a response of the primary, and with fewer changes than it.
MAX_SILENCE = 60
MAX_BEHIND = 300
# The types of the values that the inspection returns, and the keys of objects. An image of another release of the collection
# can lack values.
INSPECTION: dict[str, Any] = {
    "problems": list,
    "requests": {"hit": int, "stale": int, "miss": int},
    "limits": dict,
    "disk": dict,
    "database_bytes": int,
    "removed_projects": list,
    "hidden": {"count": int, "files": list},
    "scrub": {"at": "timestamp"},
    "backup": {"at": "timestamp"},
    "cache": dict,
    "devpi": dict,
    "upstream": UPSTREAM,
    "fallback": UPSTREAM,
    "mirrors": list,
    "replica": REPLICA,
    "replicas": list,
    "certificate_expires": "timestamp",
}
OPTIONAL = ("hidden", "fallback", "mirrors", "replica", "replicas", "certificate_expires")
NULLABLE = (*OPTIONAL, "scrub", "backup", "cache", "devpi", "upstream")


def is_timestamp(value: Any) -> bool:
    """Return whether a value is a number of seconds since the epoch that can be formatted."""
    try:
        return isinstance(value, (int, float)) and bool(format_timestamp(value))
    except (OverflowError, ValueError, OSError):
        return False


def has_type(value: Any, expected: Any) -> bool:
    """Return whether a value has the expected type, is a timestamp, or is an object with values of the expected types."""
    if expected == "timestamp or null" and value is None:
        return True
    if expected in ("timestamp", "timestamp or null"):
        return is_timestamp(value)
    if not isinstance(expected, dict):
        return isinstance(value, expected)
    return isinstance(value, dict) and all(has_type(value.get(key), kind) for key, kind in expected.items())


def invalid_keys(inspection: dict[str, Any]) -> list[str]:
    """Return the keys of an inspection that are missing or have values of other types."""
    return [
        key
        for key, expected in sorted(INSPECTION.items())
        if (key not in inspection and key not in OPTIONAL)
        or not (has_type(inspection.get(key), expected) or (inspection.get(key) is None and key in NULLABLE))
    ]


def is_removal(item: Any) -> bool:
    """Return whether an item describes a removed project."""
    return has_type(item, {"index": str, "project": str, "at": "timestamp"})


def hidden_files(hidden: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the hidden files that the inspection describes correctly, and their number."""
    if hidden is None:
        return None
    keys = ("index", "project", "filename", "rule")
    files = [
        {**{key: item[key] for key in keys}, "available_at": item.get("available_at")}
        for item in hidden["files"]
        if has_type(item, dict.fromkeys(keys, str))
    ]
    return {"count": hidden["count"], "files": files}


def format_timestamp(seconds: float | None) -> str | None:
    """Return a number of seconds since the epoch as a date and time in UTC."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def without_fraction(timestamp: str) -> str:
    """Return a timestamp of Docker without fractions of a second, as in 2026-11-02T08:00:12Z."""
    return timestamp.split(".")[0].rstrip("Z") + "Z"


def age_days(timestamp: str, now: float) -> int | None:
    """Return the whole days since a timestamp in UTC, None if it is invalid."""
    try:
        return int((now - calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))) // 86400)
    except ValueError:
        return None


def with_date(event: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return an event with its time as a date."""
    return None if event is None else dict(event, at=format_timestamp(event["at"]))


def values_from_inspection(inspection: dict[str, Any]) -> dict[str, Any]:
    """Return the return values that are known from the inspection of the container."""
    devpi = inspection["devpi"] or {}
    requests = {name: inspection["requests"][name] for name in ("hit", "stale", "miss")}
    total = sum(requests.values())
    return {
        "versions": devpi.get("versions", {}),
        "uuid": devpi.get("uuid"),
        "serial": devpi.get("serial"),
        "role": devpi.get("role"),
        "replication": replication(inspection),
        "upstream": inspection["upstream"],
        "fallback": fallback(inspection),
        "mirrors": mirrors(inspection),
        "cache": inspection["cache"],
        "limits": inspection["limits"],
        "requests": requests,
        "hit_rate": round((total - requests["miss"]) / total, 3) if total else None,
        "database_bytes": inspection["database_bytes"],
        "removed_projects": [with_date(item) for item in inspection["removed_projects"] if is_removal(item)],
        "hidden": hidden_files(inspection.get("hidden")),
        "last_scrub": with_date(inspection["scrub"]),
        "last_backup": with_date(inspection["backup"]),
        "certificate_expires": format_timestamp(inspection.get("certificate_expires")),
        "disk": inspection["disk"],
    }


def replication(inspection: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state of the replication, with times as dates. None for a standalone server."""
    replica, replicas = inspection.get("replica"), inspection.get("replicas")
    if replica is not None:
        offset = clock_offset(replica)
        return {
            "role": "replica",
            "serial": replica["serial"],
            "primary_url": replica["primary"]["url"],
            "primary_error": replica["primary"]["error"],
            "primary_serial": replica["primary_serial"],
            "lag": replication_lag(replica),
            "last_in_sync": format_timestamp(replica["in_sync_at"]),
            "last_update": format_timestamp(replica["updated_at"]),
            "errors": file_errors(replica),
            "error_count": replica["error_count"],
            "clock_offset": None if offset is None else offset.seconds,
        }
    if replicas is not None:
        keys = {"uuid": str, "address": str, "serial": int, "requested_at": "timestamp"}
        found = [item for item in replicas if has_type(item, keys)]
        return {
            "role": "primary",
            "serial": (inspection["devpi"] or {}).get("serial"),
            "replicas": [
                {
                    **{key: item[key] for key in ("uuid", "address", "serial")},
                    "last_request": format_timestamp(item["requested_at"]),
                }
                for item in found
            ],
        }
    return None


def replication_lag(replica: dict[str, Any]) -> int | None:
    """Return how many changes of its primary a replica lacks. None if the primary has not responded yet."""
    known: int | None = replica["primary_serial"]
    return None if known is None else max(0, known - int(replica["serial"]))


def file_errors(replica: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the errors of a replica's files that the inspection describes correctly."""
    keys = {"file": str, "error": str}
    return [{key: item[key] for key in keys} for item in replica["errors"] if has_type(item, keys)]


def clock_offset(replica: dict[str, Any]) -> _devpi.ClockOffset | None:
    """Return the offset of a replica's clock from that of its primary. A container has the clock of its host."""
    primary = replica["primary"]
    return _devpi.clock_offset(primary["date"], primary["sent"], primary["received"])


def replication_problems(replica: dict[str, Any]) -> list[str]:
    """Return the problems of a replica."""
    found = []
    primary, offset, now = replica["primary"], clock_offset(replica), replica["at"]
    since = replica["updated_at"] or replica["started_at"] or now
    if primary["error"]:
        found.append(
            f"Its primary {primary['url']} is unreachable ({primary['error']}). Packages are served, but logins, uploads and "
            "other changes fail until the primary responds. Check that it runs, and the network to it."
        )
    elif offset is not None and offset.problem:
        found.append(
            f"It can't receive changes from its primary {primary['url']}: {offset.problem}. Run an NTP client on both servers."
        )
    elif now - since > MAX_SILENCE:
        found.append(
            f"It has received no response to its requests for changes from its primary {primary['url']} for "
            f"{now - since:.0f} s. Packages are served. {_devpi.remedy(_devpi.NOT_IN_SYNC)}"
        )
    lag = replication_lag(replica)
    since = replica["in_sync_at"] or replica["started_at"] or now
    if lag and now - since > MAX_BEHIND:
        found.append(
            f"It lacks {lag} changes of its primary, and has not been in sync for {(now - since) / 60:.0f} minutes. "
            "Check its log."
        )
    elif not lag and replica["error_count"]:
        errors = file_errors(replica)
        example = f", such as {errors[0]['file']} ({errors[0]['error']})" if errors else ""
        found.append(
            f"{replica['error_count']} files could not be replicated{example}. devpi tries again. Check that the primary "
            "has them."
        )
    return found


def values_from_probe(result: _devpi.ProbeResult) -> dict[str, Any]:
    """Return the return values that are known from devpi's responses to any client."""
    return {
        "versions": {"devpi-server": result.version} if result.version else {},
        "uuid": result.uuid,
        "serial": result.serial,
        "role": None,
        "upstream": None,
        "cache": None,
    }


def inspect(docker: Docker, name: str) -> tuple[dict[str, Any] | None, str]:
    """Run the inspection in the container. Returns its result, or None and the error."""
    output = docker.run("exec", name, *INSPECT_COMMAND)
    if output is None:
        return None, docker.error.split("\n")[-1]
    try:
        inspection: Any = json.loads(output)
    except (ValueError, RecursionError) as exc:
        return None, f"its output is not JSON: {exc}"
    if not isinstance(inspection, dict):
        return None, "its output is not a JSON object"
    invalid = invalid_keys(inspection)
    return (None, f"its output lacks {', '.join(invalid)}") if invalid else (inspection, "")


def problems(
    engine: dict[str, Any],
    container: dict[str, Any] | None,
    inspection: dict[str, Any] | None,
    failure: str,
    probed: _devpi.ProbeResult,
    name: str,
) -> list[str]:
    """Return the problems that need attention. ``failure`` is the error of an inspection that failed."""
    if not engine["running"]:
        return [f"The Docker daemon does not respond ({engine['error']}): start it, or run devpi.mirror.site."]
    unusable = [f"Clients can't use the mirror: {probed.detail}. {_devpi.remedy(probed.kind)}"]
    other_listener = unusable if probed.kind == _devpi.OTHER_SERVICE else []
    if container is None:
        return [f"The container {name} does not exist: start its service, or run devpi.mirror.site.", *other_listener]
    if not container["running"]:
        return [f"The container {name} is not running: start its service, and read its log.", *other_listener]
    found: list[str] = list(inspection["problems"]) if inspection else []
    if failure:
        found.append(f"Could not inspect the container {name}: {failure}. Read its log.")
    if probed.kind != _devpi.READY and not (inspection and inspection["devpi"] is None):
        found += unusable
    if inspection:
        found += unreachable_upstreams(inspection["upstream"], fallback(inspection), mirrors(inspection) or [])
        if inspection.get("replica") is not None:
            found += replication_problems(inspection["replica"])
    return found


def unreachable_upstreams(
    upstream: dict[str, Any] | None, second: dict[str, Any] | None, others: list[dict[str, Any]]
) -> list[str]:
    """Return a problem for each upstream that does not respond: that of root/pypi, and those of other mirror indexes.

    ``second`` is the fallback of root/pypi. While it is in use, there is no problem.
    """
    served = "Cached packages are served, and others are unavailable. Check the network of this host, or set"
    settings = "devpi_server_https_proxy, devpi_server_ca_bundle or"
    found = []
    if upstream and not upstream["reachable"] and not (second and second["in_use"]):
        also = f", and so is its fallback {second['url']} ({second['error']})" if second else ""
        found.append(
            f"Its upstream {upstream['url']} is unreachable ({upstream['error']}){also}. {served} {settings} "
            "devpi_server_upstream_url."
        )
    found += [
        f"The upstream {mirror['url']} of {mirror['index']} is unreachable ({mirror['error']}). {served} {settings} "
        "mirror_url in devpi_server_indexes."
        for mirror in others
        if not mirror["reachable"]
    ]
    return found


def fallback(inspection: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fallback of root/pypi, and whether it is in use."""
    found, upstream = inspection.get("fallback"), inspection["upstream"]
    if not found or not upstream:
        return None
    return dict(found, in_use=found["reachable"] and not upstream["reachable"])


def mirrors(inspection: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the upstreams of other mirror indexes that the inspection describes correctly."""
    found = inspection.get("mirrors")
    return found and [mirror for mirror in found if has_type(mirror, {"index": str, **UPSTREAM})]


def gather(params: dict[str, Any], docker: Docker, client: _devpi.Client) -> dict[str, Any]:
    """Return the return values of the module."""
    engine = docker.engine()
    name = params["container"]
    container = docker.container(name) if engine["running"] else None
    created = docker.image_created(container["image"]) if container else ""
    is_running = container is not None and container["running"]
    is_own = is_running and IMAGE_LABEL in (container or {}).get("labels", {})
    inspection, failure = inspect(docker, name) if is_own else (None, "")
    limit = params["request_timeout"]
    probed = within(
        limit,
        lambda: _devpi.probe(client.with_deadline(limit), "index", params["index"], "", params["listener_uid"]),
        _devpi.ProbeResult(_devpi.TOO_SLOW, "the request timed out"),
    )
    reasons = problems(engine, container, inspection, failure, probed, name)
    # nginx in this collection's image serves cached packages while devpi does not respond.
    is_serving = is_running and (inspection is not None or probed.kind == _devpi.READY)
    values = values_from_inspection(inspection) if inspection else values_from_probe(probed)
    values.update(
        state="down" if not is_serving else "degraded" if reasons else "ok",
        reasons=reasons,
        image=container["image"] if container else None,
        image_created=without_fraction(created) if created else None,
        image_age_days=age_days(without_fraction(created), time.time()),
        up_since=without_fraction(container["started"]) if container and is_running else None,
    )
    return values


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            _devpi.CONNECTION_OPTIONS, **_devpi.PROBE_OPTIONS, container={"type": "str", "default": "devpi"}
        ),
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    try:
        client, index = _devpi.client_from(module.params), _devpi.index_from(module.params)
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, **gather(dict(module.params, index=index), Docker(module), client))


if __name__ == "__main__":
    main()
