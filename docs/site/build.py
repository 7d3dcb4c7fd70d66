# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the documentation site in .cache/docs/html. Runs with the Python of .venv/docs.

The pages of the project are built from a copy of the collection at the path that Ansible expects. antsibull-docs adds the
pages of modules, filters and roles to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".cache" / "docs"
COLLECTIONS = SITE / "collections"
SOURCE = COLLECTIONS / "ansible_collections" / "devpi" / "mirror"
HTML = SITE / "html"
BIN = Path(sys.executable).parent


def copy_collection() -> None:
    """Copy the files of the collection to ``SOURCE``."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (SOURCE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, SOURCE / name)
    shutil.copy2(ROOT / "docs" / "site" / "index.md", SOURCE / "index.md")


def run(*command: str) -> None:
    """Run a command of the environment in the copy of the collection. It has printed why it failed, if it fails."""
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    if subprocess.run(command, cwd=SOURCE, env=env, check=False).returncode != 0:
        sys.exit(1)


def main() -> None:
    copy_collection()
    checks = ["--plugin-docs", "--skip-rstcheck", "--validate-collection-refs=self"]
    run("antsibull-docs", "lint-collection-docs", *checks, ".")
    # antsibull-docs requires a folder that no other user can write to.
    reference = SOURCE / "reference"
    reference.mkdir(mode=0o755)
    options = ["--use-current", "--squash-hierarchy", "--fail-on-error", "--dest-dir", str(reference)]
    run("antsibull-docs", "collection", *options, "devpi.mirror")
    run("sphinx-build", "--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", "docs/site", ".", str(HTML))
    print(f"The documentation is in {HTML / 'index.html'}")


if __name__ == "__main__":
    main()
