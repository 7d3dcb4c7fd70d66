# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible loads in each process that uses a filter of the collection: the files of all its filters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ansible_collections.devpi.mirror.plugins.filter as filters

LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module("ansible_collections.devpi.mirror.plugins.filter." + name)
print(*sys.modules)
"""


def test_filters_load_no_code_that_takes_long_to_load():
    names = sorted(path.stem for folder in filters.__path__ for path in Path(folder).glob("*.py"))
    assert "invalid_indexes" in names
    done = subprocess.run([sys.executable, "-c", LOAD, *names], capture_output=True, text=True, check=True)
    assert not {"http.client", "configparser", "ansible.module_utils.basic"} & set(done.stdout.split())
