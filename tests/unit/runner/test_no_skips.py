# SPDX-License-Identifier: GPL-3.0-or-later
"""Skipped tests of a scenario fail, however they are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[3] / "molecule" / "shared" / "files"


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ("def test_it(): pass", True),
        ("import pytest\ndef test_it(): pytest.skip('no reason')", False),
        ("import pytest\n@pytest.mark.skip\ndef test_it(): pass", False),
        ("import pytest\n@pytest.fixture\ndef server(): pytest.skip()\ndef test_it(server): pass", False),
        ("import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass", False),
    ],
    ids=["no skip", "in a test", "by a mark", "in a fixture", "of a file"],
)
def test_skipped(tmp_path: Path, source: str, passes: bool) -> None:
    file = tmp_path / "test_scenario.py"
    file.write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no_skips", "--rootdir", str(tmp_path)]
    env = dict(os.environ, PYTHONPATH=str(PLUGINS))
    done = subprocess.run([*command, str(file)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert passes or "skipped tests count as failures" in done.stdout
