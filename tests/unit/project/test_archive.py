# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of the collection has no files that only a checkout needs, and the README names it correctly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
# Galaxy runs ansible-lint on the archive, which reads these two.
LINTED_WITH = {".ansible-lint", ".yamllint"}
METADATA = yaml.safe_load((ROOT / "galaxy.yml").read_text())


def test_development_files_are_left_out():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    tracked = {path.split("/")[0] for path in listed}
    generated = {pattern.strip("/") for pattern in (ROOT / ".gitignore").read_text().split()}
    hidden = {name for name in tracked | generated if name.startswith(".")}
    assert hidden - set(METADATA["build_ignore"]) == LINTED_WITH


def test_the_readme_has_the_current_version():
    archive = "{namespace}-{name}-{version}.tar.gz".format(**METADATA)
    assert archive in (ROOT / "README.md").read_text()
