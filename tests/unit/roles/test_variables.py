# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a role outside of it: a play that includes the role publicly can evaluate all of ``vars``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.devpi import mirror

HERE = Path(__file__).parent
ROLES = HERE.parents[2] / "roles"
# The folder that contains ansible_collections, for the filters.
COLLECTIONS = Path(mirror.__path__[0]).parents[2]
WITH_VARIABLES = sorted(path.parent.name for path in ROLES.glob("*/defaults"))


@pytest.mark.parametrize("role", WITH_VARIABLES)
def test_all_variables_can_be_evaluated_outside_of_the_role(role, tmp_path):
    # With another name, as in a playbook in a collection, the name of a role of that collection would mean the whole role.
    name = f"variables_of_{role}"
    for folder in ("defaults", "vars"):
        shutil.copytree(ROLES / role / folder, tmp_path / name / folder)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(HERE / "evaluate.yml")]
    command += ["--extra-vars", json.dumps({"role": name, "ansible_python_interpreter": sys.executable})]
    env = {**os.environ, "ANSIBLE_ROLES_PATH": str(tmp_path), "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert re.findall(r"failed: .*item=(\w+)", output) == [], output
    assert done.returncode == 0, output
    assert f"__{role}_" in output
