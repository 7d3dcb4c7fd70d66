"""What the tests of the image's files share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "roles" / "devpi_server" / "files"


@pytest.fixture
def load(monkeypatch):
    """Load one of the image's files anew, by its name without ``.py``. It finds the others, as they are in one folder there."""
    monkeypatch.syspath_prepend(FILES)

    def load_file(name):
        spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_file
