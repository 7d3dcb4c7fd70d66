# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.text.converters import to_bytes


class Ended(Exception):
    """How a module ended: ``result`` is what it would have printed, ``failed`` whether it failed."""

    def __init__(self, result, failed):
        super().__init__(str(result))
        self.result = result
        self.failed = failed


@pytest.fixture
def run_module(monkeypatch):
    """Run the main of a module with arguments, and return how it ended."""

    def run(module, arguments, check_mode=False, diff=False):
        arguments = dict(arguments, _ansible_check_mode=check_mode, _ansible_diff=diff, _ansible_remote_tmp="/tmp")
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", to_bytes(json.dumps({"ANSIBLE_MODULE_ARGS": arguments})))
        # From ansible-core 2.19 on, a module is also told how its arguments were written.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)

        def exit_json(self, **kwargs):
            raise Ended(kwargs, False)

        def fail_json(self, msg, **kwargs):
            raise Ended(dict(kwargs, msg=msg), True)

        monkeypatch.setattr(basic.AnsibleModule, "exit_json", exit_json)
        monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail_json)
        with pytest.raises(Ended) as ended:
            module.main()
        return ended.value

    return run
