# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.text.converters import to_bytes


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
