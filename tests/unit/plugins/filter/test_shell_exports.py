# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess

import pytest
from ansible_collections.devpi.mirror.plugins.filter.shell_exports import FilterModule

shell_exports = FilterModule().filters()["shell_exports"]


@pytest.mark.parametrize("value", ['http://ada:it\'s $HOME `id` "x"@proxy:3128', "two\nlines", "", 7])
def test_a_shell_sets_the_variable_to_the_value(value):
    command = ["/bin/sh", "-c", 'eval "$(cat)"; printf %s "$VALUE"']
    done = subprocess.run(command, input=shell_exports({"VALUE": value}), capture_output=True, text=True, check=True)
    assert done.stdout == str(value)


def test_variables_are_sorted():
    assert shell_exports({"b": "1", "a": "2"}) == "export a=2\nexport b=1\n"
    assert shell_exports({}) == ""
