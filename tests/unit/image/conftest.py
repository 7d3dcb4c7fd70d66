# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the image's package importable: it is not installed in the environments of the tests."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = "devpi_mirror"

sys.path.insert(0, str(Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "image"))


def take_package_modules() -> dict[str, ModuleType]:
    """Remove the package's modules from the imported ones, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == PACKAGE}


@pytest.fixture
def load():
    """Return a function that imports a module of the package by its name.

    Each test gets new copies of the modules, as the package reads the environment when it is imported.
    """
    imported = take_package_modules()
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    take_package_modules()
    sys.modules.update(imported)


@pytest.fixture
def supervisor(monkeypatch):
    """An empty ``supervisor`` package in place of the image's, which these environments do not have."""
    package = ModuleType("supervisor")
    package.childutils = ModuleType("supervisor.childutils")
    package.supervisord = ModuleType("supervisor.supervisord")
    package.supervisord.Supervisor = object
    for module in (package, package.childutils, package.supervisord):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return package
