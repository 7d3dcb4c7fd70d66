# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.text.converters import to_bytes
from ansible_collections.devpi.mirror.plugins.module_utils import _devpi


class ModuleExit(Exception):  # noqa: N818 - as SystemExit, which it replaces
    """The end of a module: ``result`` has its return values, ``failed`` is whether it failed."""

    def __init__(self, result, failed):
        super().__init__(str(result))
        self.result = result
        self.failed = failed


@pytest.fixture
def run_module(monkeypatch):
    """Return a function that runs a module with arguments and returns its ModuleExit."""

    def run(module, arguments, check_mode=False, diff=False):
        arguments = dict(arguments, _ansible_check_mode=check_mode, _ansible_diff=diff, _ansible_remote_tmp="/tmp")
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", to_bytes(json.dumps({"ANSIBLE_MODULE_ARGS": arguments})))
        # ansible-core 2.19 and later also pass the serialization profile of the arguments.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)

        def exit_json(self, **kwargs):
            raise ModuleExit(kwargs, False)

        def fail_json(self, msg, **kwargs):
            raise ModuleExit(dict(kwargs, msg=msg), True)

        monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
        monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)
        with pytest.raises(ModuleExit) as module_exit:
            module.main()
        return module_exit.value

    return run


class FakeDevpi:
    """The part of devpi's API that modules for users and indexes use. ``refusals`` has responses by method and path."""

    def __init__(self, major):
        self.version = {6: "6.20.3", 7: "7.0.0b4"}[major]
        self.users = {"root": {}}
        self.passwords = {"root": "secret-of-root"}
        self.can_log_in = True
        self.plugins = {"devpi-mirror": "1.0"}
        self.projects = {}
        self.refusals = {}
        self.requests = []

    @property
    def changes(self):
        return [request for request in self.requests if request[0] != "GET" and request[1] != "/+login"]

    def respond(self, client, method, path, body=None):
        path = path.replace("?no_projects=", "")
        self.requests.append((method, path, body))
        status, document = self.refusals.get((method, path)) or self.answer(client, method, path, body)
        headers = {"x-devpi-server-version": self.version} if status != 500 else {}
        return _devpi.Response(status, headers, json.dumps(document).encode())

    def answer(self, client, method, path, body):
        login = base64.b64decode(client._headers.get("Authorization", "Basic Og==")[6:]).decode().split(":", 1)
        is_known = login[0] in self.passwords and login[1] in (self.passwords[login[0]], f"token of {login[0]}")
        if path == "/+login":
            is_valid = self.can_log_in and self.passwords.get(body["user"]) == body["password"]
            return (200, {"result": {"password": f"token of {body['user']}"}}) if is_valid else (401, {"message": "no"})
        if path == "/+api":
            return 200, {"result": {"authstatus": ["ok", login[0], []] if is_known else ["noauth", "", []]}}
        if path == "/+status":
            return 200, {"result": {"versioninfo": {"devpi-server": self.version, **self.plugins}}}
        if method != "GET" and not (is_known and login[0] == "root"):
            return 403, {"message": "Access was denied\n\n to this resource."}
        if path == "/":
            return 200, {"result": self.users}
        names = path[1:].split("/")
        found = self.users if len(names) == 1 else self.users.get(names[0], {}).setdefault("indexes", {})
        return self.answer_about(found, names[-1], method, path, body)

    def answer_about(self, found, name, method, path, body):
        if method != "PUT" and name not in found:
            return 404, {"message": "not found"}
        if method == "DELETE":
            del found[name]
            return 201, {"message": "deleted"}
        if isinstance(body, list):
            for change in body:
                del found[name][change[:-2]]
        elif method != "GET":
            settings = {key: value for key, value in body.items() if key not in ("password", "pwhash")}
            found[name] = {**found.get(name, {}), **settings}
            if body.get("password") is not None:
                self.passwords[name] = body["password"]
        return 200, {"result": {**found[name], "projects": self.projects.get(path, [])}}


@pytest.fixture(params=[6, 7])
def server(request, monkeypatch):
    """A devpi server of each release, which modules change."""
    fake = FakeDevpi(request.param)
    monkeypatch.setattr(
        _devpi.Client, "send_json", lambda client, method, path, body=None: fake.respond(client, method, path, body)
    )
    return fake
