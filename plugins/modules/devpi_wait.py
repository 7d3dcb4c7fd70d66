#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_wait
short_description: Wait until a devpi server is ready to serve packages
description:
  - Waits until a devpi server reaches the state that O(level) describes, and reports what prevents it otherwise.
  - An open port does not prove that packages can be installed, and neither does a response of devpi, which continues to respond
    while its upstream is unreachable. So this module sends the same requests as C(pip).
extends_documentation_fragment:
  - devpi.mirror.attributes
  - devpi.mirror.connection
  - devpi.mirror.probe
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  level:
    description:
      - The state to wait for. Each of V(index), V(project) and V(file) includes the previous ones.
      - V(api) - devpi responds at O(url), and not another program.
      - V(index) - O(index) exists.
      - V(project) - the simple page of O(project) lists files.
      - V(file) - one of these files can be downloaded, and its hash matches.
      - V(in_sync) - devpi is a primary or standalone server, or a replica that has all changes of its primary.
      - V(absent) - devpi no longer responds at O(url).
    type: str
    choices: [api, index, project, file, in_sync, absent]
    default: index
  project:
    description:
      - The project to request. It must exist on the index or on its upstream.
    type: str
    default: pip
  timeout:
    description:
      - The time limit in seconds of the whole task. It also limits an attempt whose O(request_timeout) ends later.
      - With V(0), there is one attempt.
      - With O(level=in_sync), it starts anew each time the replica lacks fewer changes than before, so that it does not depend
        on the size of the database.
    type: float
    default: 60
  delay:
    description:
      - The number of seconds between the first two attempts. Each further delay is half as long again.
    type: float
    default: 0.2
  max_delay:
    description:
      - The maximum number of seconds between two attempts.
    type: float
    default: 5
  confirm_failure:
    description:
      - The number of seconds for which a failure that waiting does not resolve must persist. The task then fails before
        O(timeout).
      - Such failures are RV(kind=no_such_index), RV(kind=unauthorized) and RV(kind=tls).
    type: float
    default: 5
attributes:
  check_mode:
    details:
      - In check mode, there is one attempt, and the task does not fail. RV(ready) has its result.
  diff_mode:
    support: none
seealso:
  - module: devpi.mirror.devpi_info
"""

EXAMPLES = r"""
- name: Wait until packages can be installed from the mirror
  devpi.mirror.devpi_wait:
    url: http://127.0.0.1:3141
    level: file
    timeout: 120

- name: Wait until a private index lists a project
  devpi.mirror.devpi_wait:
    url: https://devpi.example.com
    index: acme/stable
    level: project
    project: acme-tools
    url_username: reader
    url_password: "{{ vault_devpi_reader_password }}"

- name: Wait until devpi has stopped
  devpi.mirror.devpi_wait:
    url: http://127.0.0.1:3141
    level: absent
"""

RETURN = r"""
ready:
  description: Whether the server reached O(level).
  returned: always
  type: bool
  sample: true
kind:
  description:
    - The result of the last attempt, which is V(ready), or a failure. Failures are V(refused), V(unreachable), V(too_slow),
      V(tls), V(other_service), V(server_error), V(unauthorized), V(no_such_index), V(no_such_project),
      V(upstream_unreachable), V(not_in_sync) and V(damaged_file).
  returned: always
  type: str
  sample: ready
attempts:
  description: The number of attempts.
  returned: always
  type: int
  sample: 4
elapsed:
  description: The duration of the task in seconds.
  returned: always
  type: float
  sample: 1.25
version:
  description: The version of devpi-server.
  returned: when devpi responded
  type: str
  sample: 6.20.3
uuid:
  description: The UUID of the server's database.
  returned: when devpi responded
  type: str
  sample: 767ef23bbbb148d98dfa7d28a6ceadf4
serial:
  description: The serial number of the last change in the server's database.
  returned: when devpi responded
  type: int
  sample: 7
simpleindex:
  description: The URL of the index's simple page, which is the value of pip's C(index-url).
  returned: when the index exists
  type: str
  sample: http://127.0.0.1:3141/root/pypi/+simple/
file:
  description: The name of the requested file.
  returned: when the level is V(file) and the project's page listed files
  type: str
  sample: pip-26.0-py3-none-any.whl
clock_offset:
  description:
    - By how many seconds the clock of this host is ahead of the server's, negative if it is behind. Half a second off, because
      a response has its time without the fraction of the second.
  returned: when devpi responded with its time
  type: float
  sample: -0.3
clock_problem:
  description: Why the server would not accept this host as its replica, because of RV(clock_offset). Empty if it would.
  returned: when devpi responded with its time
  type: str
history:
  description: The results of all attempts, in order. Consecutive attempts with the same result are one entry.
  returned: always
  type: list
  elements: dict
  contains:
    after:
      description: The number of seconds from the start of the task to the end of the first of these attempts.
      type: float
    kind:
      description: The same as RV(kind).
      type: str
    detail:
      description: A description of the result.
      type: str
    count:
      description: The number of these attempts.
      type: int
  sample: [{"after": 0.01, "kind": "refused", "detail": "connection refused", "count": 3}]
"""

from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.module_utils._polling import Backoff, poll, within

# The results of a probe to which no devpi responds.
ABSENT = frozenset([_devpi.REFUSED, _devpi.OTHER_SERVICE])


def is_done(level: str, result: _devpi.ProbeResult) -> bool:
    """Return whether the server has reached the level."""
    return result.kind in ABSENT if level == "absent" else result.kind == _devpi.READY


def is_definitive(level: str, result: _devpi.ProbeResult) -> bool:
    """Return whether this is a failure that waiting does not resolve."""
    return level != "absent" and result.kind in _devpi.DEFINITIVE


class Progress:
    """The smallest number of changes that a replica has lacked so far. ``None`` if it is unknown."""

    def __init__(self) -> None:
        self.lag: int | None = None

    def add(self, result: _devpi.ProbeResult) -> bool:
        """Add a result, and return whether the replica lacks fewer changes than before."""
        before = self.lag
        if result.lag is not None and (before is None or result.lag < before):
            self.lag = result.lag
        return before is not None and self.lag != before


class History:
    """The results of all attempts, in order, with consecutive equal ones as one entry."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def add(self, after: float, result: _devpi.ProbeResult) -> None:
        """Add the result of an attempt that ended ``after`` seconds."""
        last = self.entries[-1] if self.entries else None
        if last is not None and (last["kind"], last["detail"]) == (result.kind, result.detail):
            last["count"] += 1
        else:
            self.entries.append({"after": round(after, 3), "kind": result.kind, "detail": result.detail, "count": 1})


def message(url: str, level: str, result: _devpi.ProbeResult, elapsed: float) -> str:
    """Return the message of the task."""
    if is_done(level, result):
        return f"devpi no longer responds at {url}" if level == "absent" else result.detail
    if level == "absent":
        return f"{url} still responds after {elapsed:.1f} s: {result.detail}. {_devpi.remedy(result.kind)}"
    return f"{url} is not ready after {elapsed:.1f} s ({result.kind}): {result.detail}. {_devpi.remedy(result.kind)}"


def server_values(result: _devpi.ProbeResult) -> dict[str, Any]:
    """Return the return values that describe the server, without unknown ones."""
    values = {name: getattr(result, name) for name in ("kind", "version", "uuid", "serial", "simpleindex", "file")}
    if result.clock is not None:
        values.update(clock_offset=result.clock.seconds, clock_problem=result.clock.problem)
    return {name: value for name, value in values.items() if value is not None}


def check_durations(params: dict[str, Any]) -> None:
    """Raise ValueError with the name of the option if a duration is invalid."""
    for name in ("timeout", "delay", "max_delay", "confirm_failure"):
        if params[name] < 0 or (params[name] == 0 and name in ("delay", "max_delay")):
            raise ValueError(f"{name} is {params[name]}: use a number of seconds above zero")


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            _devpi.CONNECTION_OPTIONS,
            **_devpi.PROBE_OPTIONS,
            level={"type": "str", "choices": list(_devpi.LEVELS), "default": "index"},
            project={"type": "str", "default": "pip"},
            timeout={"type": "float", "default": 60},
            delay={"type": "float", "default": 0.2},
            max_delay={"type": "float", "default": 5},
            confirm_failure={"type": "float", "default": 5},
        ),
        required_together=_devpi.CONNECTION_REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    params = module.params
    try:
        check_durations(params)
        client, index = _devpi.client_from(params), _devpi.index_from(params)
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    level = params["level"]
    history, progress = History(), Progress()
    timed_out = _devpi.ProbeResult(_devpi.TOO_SLOW, "the request timed out")

    def probe(limit: float) -> _devpi.ProbeResult:
        limited = client.with_deadline(limit)
        attempt = partial(_devpi.probe, limited, level, index, params["project"], params["listener_uid"])
        return within(limit, attempt, timed_out)

    outcome = poll(
        probe,
        is_done=lambda result: is_done(level, result),
        is_definitive=lambda result: is_definitive(level, result),
        is_inconclusive=lambda result: result.kind == _devpi.TOO_SLOW,
        backoff=Backoff(
            timeout=0.0 if module.check_mode else params["timeout"],
            request_timeout=params["request_timeout"],
            delay=params["delay"],
            max_delay=params["max_delay"],
            confirm_failure=params["confirm_failure"],
        ),
        on_result=history.add,
        has_progressed=progress.add,
    )
    ready = is_done(level, outcome.result)
    values = dict(
        server_values(outcome.result),
        changed=False,
        ready=ready,
        attempts=outcome.attempts,
        elapsed=round(outcome.elapsed, 3),
        history=history.entries,
        msg=message(client.url, level, outcome.result, outcome.elapsed),
    )
    if ready or module.check_mode:
        module.exit_json(**values)
    module.fail_json(**values)


if __name__ == "__main__":
    main()
