# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a wheel without modules: build_wheel.py FOLDER NAME VERSION SUMMARY"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def main() -> None:
    folder, name, version, summary = sys.argv[1:]
    Path(folder).mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(Path(folder) / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for member, text in (
            ("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"),
            ("WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ):
            # With a fixed time, so that the same text is the same file.
            archive.writestr(zipfile.ZipInfo(f"{info}/{member}"), text)


main()
