#!/usr/bin/python

# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: devpi_wait
short_description: Wait until a devpi server responds, and know what that means
description:
  - Waits until a devpi server does what it is needed for, as far as O(level) says.
  - An open port does not tell that packages can be installed, and neither does an answer of devpi, since a devpi whose
    upstream can't be reached goes on answering. So the module looks at what C(pip) would look at.
  - A proxy of the environment is not used for the loopback addresses.
extends_documentation_fragment: action_common_attributes
author:
  - The devpi.mirror authors (@devpi-mirror)
options:
  url:
    description:
      - The server's address, without an index, such as V(http://127.0.0.1:3141).
    type: str
    required: true
  level:
    description:
      - What must hold before the wait ends.
      - V(api) means that devpi answers on that port, and not another program.
      - V(index) means that O(index) exists as well.
      - V(project) means that the simple page of O(project) lists files as well.
      - V(file) means that one of these files arrives and matches its hash as well.
      - V(absent) means that no devpi answers there any more.
    type: str
    choices: [api, index, project, file, absent]
    default: index
  index:
    description:
      - The index to ask for, as C(user/index).
    type: str
    default: root/pypi
  project:
    description:
      - The project to ask for. It must exist on the index or on its upstream.
    type: str
    default: pip
  timeout:
    description:
      - Seconds until the wait is given up. V(0) looks once.
    type: float
    default: 60
  request_timeout:
    description:
      - Seconds that a single try may take. It never goes on after O(timeout) is over.
    type: float
    default: 10
  delay:
    description:
      - Seconds between the first try and the second. Each further pause is half as long again.
    type: float
    default: 0.2
  max_delay:
    description:
      - Seconds that a pause between two tries can grow to.
    type: float
    default: 5
  settle:
    description:
      - Seconds for which an answer that waiting does not change (no such index, a log-in is wanted, a certificate is not
        trusted) must be seen again and again before the wait is given up early.
    type: float
    default: 5
  url_username:
    description:
      - The user to log in as, for an index that not everyone may read.
    type: str
  url_password:
    description:
      - The password of O(url_username).
    type: str
  listener_uid:
    description:
      - The UID of the user who listens on the port of O(url). If another user does, on either loopback address, the result is
        V(other_service), as any local user can listen on a port that is free.
      - Not checked if it is not set, if O(url) has no loopback address, and on hosts without C(/proc/net/tcp).
    type: int
  ca_path:
    description:
      - A file of certificate authorities to trust for C(https), instead of the system's.
    type: path
  validate_certs:
    description:
      - Whether the server's certificate is checked.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    details:
      - In check mode the module looks once, does not wait, and never fails because of what it sees. RV(ready) tells
        what it saw.
  diff_mode:
    support: none
  platform:
    platforms: posix
    support: full
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

- name: Wait until devpi has gone
  devpi.mirror.devpi_wait:
    url: http://127.0.0.1:3141
    level: absent
"""

RETURN = r"""
ready:
  description: Whether O(level) was reached.
  returned: always
  type: bool
  sample: true
kind:
  description:
    - What was seen last. V(ready), or what is in the way, one of V(refused), V(unreachable), V(too_slow), V(tls),
      V(other_service), V(server_error), V(unauthorised), V(no_such_index), V(no_such_project), V(upstream_unreachable),
      V(damaged_file).
  returned: always
  type: str
  sample: ready
attempts:
  description: How often the module looked.
  returned: always
  type: int
  sample: 4
elapsed:
  description: Seconds from the first look to the end.
  returned: always
  type: float
  sample: 1.25
version:
  description: The version of devpi-server.
  returned: when devpi answered
  type: str
  sample: 6.20.3
uuid:
  description: The identity of the server's store.
  returned: when devpi answered
  type: str
  sample: 767ef23bbbb148d98dfa7d28a6ceadf4
serial:
  description: The serial number of the last change in the server's store.
  returned: when devpi answered
  type: int
  sample: 7
simpleindex:
  description: The URL of the index's simple page, which is what C(pip) takes as C(index-url).
  returned: when the index was found
  type: str
  sample: http://127.0.0.1:3141/root/pypi/+simple/
file:
  description: The name of the file that was asked for.
  returned: when the level is V(file) and the project's page listed files
  type: str
  sample: pip-26.0-py3-none-any.whl
history:
  description: What was seen, in order. Looks that saw the same one after the other are one entry.
  returned: always
  type: list
  elements: dict
  contains:
    after:
      description: Seconds from the start to the end of the first of these looks.
      type: float
    kind:
      description: As RV(kind).
      type: str
    detail:
      description: What was seen, in words.
      type: str
    times:
      description: How many looks in a row saw this.
      type: int
  sample: [{"after": 0.01, "kind": "refused", "detail": "nothing listens on that port", "times": 3}]
"""

import base64
import ssl
from functools import partial
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi
from ansible_collections.devpi.mirror.plugins.module_utils._polling import Pace, poll, within

GONE = frozenset([_devpi.REFUSED, _devpi.OTHER_SERVICE])


def is_done(level: str, seen: _devpi.Seen) -> bool:
    """Tell whether what was seen is what the level asks for."""
    return seen.kind in GONE if level == "absent" else seen.kind == _devpi.READY


def is_hopeless(level: str, seen: _devpi.Seen) -> bool:
    """Tell whether what was seen is nothing that waiting changes."""
    return level != "absent" and seen.kind in _devpi.DEFINITIVE


class History:
    """What was seen, in order, with equal neighbours as one entry."""

    def __init__(self) -> None:
        self.entries: List[Dict[str, Any]] = []

    def add(self, after: float, seen: _devpi.Seen) -> None:
        """Add a look that ended ``after`` seconds."""
        last = self.entries[-1] if self.entries else None
        if last is not None and (last["kind"], last["detail"]) == (seen.kind, seen.detail):
            last["times"] += 1
        else:
            self.entries.append({"after": round(after, 3), "kind": seen.kind, "detail": seen.detail, "times": 1})


def message(url: str, level: str, seen: _devpi.Seen, elapsed: float, done: bool) -> str:
    """Say in words how it ended."""
    if done:
        return "no devpi answers at %s" % url if level == "absent" else "%s: %s" % (url, seen.detail)
    if level == "absent":
        return "%s still answers after %.1f s: %s. %s" % (url, elapsed, seen.detail, _devpi.remedy(seen.kind))
    return "%s is not ready after %.1f s (%s): %s. %s" % (
        url,
        elapsed,
        seen.kind,
        seen.detail,
        _devpi.remedy(seen.kind),
    )


def result_of(seen: _devpi.Seen) -> Dict[str, Any]:
    """Return the values that are told of the server, without those that are not known."""
    values = {name: getattr(seen, name) for name in ("kind", "version", "uuid", "serial", "simpleindex", "file")}
    return {name: value for name, value in values.items() if value is not None}


def tls_context(ca_path: Optional[str], validate_certs: bool) -> ssl.SSLContext:
    """Return the context for https. Raises OSError or ssl.SSLError for a file that holds no certificates."""
    context = ssl.create_default_context(cafile=ca_path)
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def client_of(params: Dict[str, Any]) -> _devpi.Client:
    """Return a client for the module's parameters. Raises ValueError naming the parameter that is wrong."""
    for name in ("timeout", "request_timeout", "delay", "max_delay", "settle"):
        if params[name] < 0 or (params[name] == 0 and name not in ("timeout", "settle")):
            raise ValueError("%s is %s: give it a number of seconds above zero" % (name, params[name]))
    headers = {}
    if params["url_username"]:
        pair = "%s:%s" % (params["url_username"], params["url_password"])
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    try:
        context = tls_context(params["ca_path"], params["validate_certs"])
    except OSError as exc:
        raise ValueError("ca_path: %s holds no certificates that can be read: %s" % (params["ca_path"], exc)) from exc
    try:
        params["index"] = _devpi.check_index(params["index"])
    except ValueError as exc:
        raise ValueError("index: %s" % exc) from exc
    try:
        return _devpi.Client(params["url"], headers, context)
    except ValueError as exc:
        raise ValueError("url: %s" % exc) from exc


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "level": {"type": "str", "choices": list(_devpi.LEVELS), "default": "index"},
            "index": {"type": "str", "default": "root/pypi"},
            "project": {"type": "str", "default": "pip"},
            "timeout": {"type": "float", "default": 60},
            "request_timeout": {"type": "float", "default": 10},
            "delay": {"type": "float", "default": 0.2},
            "max_delay": {"type": "float", "default": 5},
            "settle": {"type": "float", "default": 5},
            "url_username": {"type": "str"},
            "url_password": {"type": "str", "no_log": True},
            "listener_uid": {"type": "int"},
            "ca_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
        },
        required_together=[("url_username", "url_password")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        client = client_of(params)
    except ValueError as exc:
        module.fail_json(msg=str(exc))
    level = params["level"]
    history = History()
    too_slow = _devpi.Seen(_devpi.TOO_SLOW, "no answer in time")

    def probe(limit: float) -> _devpi.Seen:
        limited = client.limited(limit)
        look = partial(_devpi.look, limited, level, params["index"], params["project"], params["listener_uid"])
        return within(limit, look, too_slow)

    outcome = poll(
        probe,
        done=lambda seen: is_done(level, seen),
        hopeless=lambda seen: is_hopeless(level, seen),
        unfinished=lambda seen: seen.kind == _devpi.TOO_SLOW,
        pace=Pace(
            timeout=0.0 if module.check_mode else params["timeout"],
            request_timeout=params["request_timeout"],
            delay=params["delay"],
            max_delay=params["max_delay"],
            settle=params["settle"],
        ),
        seen=history.add,
    )
    done = is_done(level, outcome.result)
    result = dict(
        result_of(outcome.result),
        changed=False,
        ready=done,
        attempts=outcome.attempts,
        elapsed=round(outcome.elapsed, 3),
        history=history.entries,
        msg=message(client.url, level, outcome.result, outcome.elapsed, done),
    )
    if done or module.check_mode:
        module.exit_json(**result)
    module.fail_json(**result)


if __name__ == "__main__":
    main()
