"""Fixtures that load the image's files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "roles" / "devpi_server" / "files"


@pytest.fixture
def load(monkeypatch):
    """Return a function that loads one of the image's files by its name without ``.py``.

    The file and those that it imports are loaded again for each test, as they read the environment when they are imported.
    """
    monkeypatch.syspath_prepend(FILES)
    for path in FILES.glob("*.py"):
        sys.modules.pop(path.stem, None)

    def load_file(name):
        spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_file
