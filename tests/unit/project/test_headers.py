# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each file has an SPDX license identifier: in a header if its format has comments, otherwise in REUSE.toml."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
import yaml

ROOT = Path(__file__).resolve().parents[3]
LICENSES = yaml.safe_load((ROOT / "galaxy.yml").read_text())["license"]


SOURCES = ("**/*.py", "**/*.yml", "**/*.j2", "**/*.sh", "**/*.conf", "**/*.toml", "**/Dockerfile", "Makefile")
# Generated files, and those whose content is compared byte for byte.
WITHOUT_HEADER = ("changelogs/", "tests/unit/roles/golden/", "tests/output/", "REUSE.toml")


def test_sources_have_a_header() -> None:
    paths = {path for pattern in SOURCES for path in ROOT.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(ROOT).as_posix() for path in paths)
    sources = [name for name in names if not name.startswith((".", *WITHOUT_HEADER))]
    assert "roles/devpi_server/tasks/main.yml" in sources
    missing = [
        name
        for name in sources
        for text in [(ROOT / name).read_text()]
        if text and f"SPDX-License-Identifier: {LICENSES[0]}" not in text[:400]
    ]
    assert missing == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/**/*.py")), ids=lambda path: path.name)
def test_plugins_have_a_header(path):
    lines = path.read_text().splitlines()[:6]
    assert any(line.startswith("# Copyright") for line in lines)
    assert [f"# SPDX-License-Identifier: {name}" for name in LICENSES] == [line for line in lines if "SPDX" in line]


def test_all_files_have_a_license():
    (everything,) = tomli.loads((ROOT / "REUSE.toml").read_text())["annotations"]
    assert everything["path"] == "**"
    assert [everything["SPDX-License-Identifier"]] == LICENSES


def test_the_licenses_have_a_text():
    for name in LICENSES:
        assert (ROOT / "LICENSES" / f"{name}.txt").read_text() == (ROOT / "LICENSE").read_text()
