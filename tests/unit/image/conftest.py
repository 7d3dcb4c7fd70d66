# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the image's package importable: it is not installed in the environments of the tests."""

from __future__ import annotations

import base64
import importlib
import secrets
import sys
from pathlib import Path
from types import ModuleType

import certifi
import pytest

PACKAGE = "devpi_mirror"

sys.path.insert(0, str(Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "image"))


def take_package_modules() -> dict[str, ModuleType]:
    """Remove the package's modules from the imported ones, and return them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == PACKAGE}


@pytest.fixture(scope="session", autouse=True)
def one_certificate_authority(tmp_path_factory):
    """Trust one certificate authority: loading all of them takes longer than most tests."""
    end = "-----END CERTIFICATE-----\n"
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    bundle.write_text(certifi.contents().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        yield


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


@pytest.fixture(scope="module")
def index():
    """The upstream's projects, which tests can change."""
    from fake_index import Index

    return Index()


@pytest.fixture(scope="module")
def upstream(index):
    from fake_upstream import serving

    with serving(index) as server:
        yield server


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, upstream):
    """A running devpi-server with the plugin. ``folder`` has its data."""
    from devpi_servers import log_in, prepare, running, set_upstream

    folder = tmp_path_factory.mktemp("mirror")
    with running(folder, prepare(folder, []), []) as server:
        server.auth = log_in(server.url)
        set_upstream(server.url, server.auth, upstream.url)
        yield server


@pytest.fixture(scope="module")
def private(mirror):
    """A private index that inherits from the mirror index, with one project of its own."""
    from devpi_mirror import compat
    from devpi_servers import request, upload

    created = request(f"{mirror.url}/alice", "PUT", {"password": "x" * 20}, X_Devpi_Auth=mirror.auth)
    assert created.status == 201, created.body
    settings = {"bases": ["root/pypi"], "volatile": True, "acl_upload": ["root"]}
    if compat.MAJOR < 7:
        settings["mirror_whitelist"] = ["shared"]
    created = request(f"{mirror.url}/alice/private", "PUT", settings, X_Devpi_Auth=mirror.auth)
    assert created.status == 200, created.body
    for name in ("own", "Own.Two", "shared"):
        upload(f"{mirror.url}/alice/private", name, X_Devpi_Auth=mirror.auth)
    if compat.MAJOR >= 7:
        rules = {"inheritance_rules": ["allow all"]}
        changed = request(
            f"{mirror.url}/alice/private/shared",
            "PATCH",
            rules,
            X_Devpi_Auth=mirror.auth,
            Content_Type="application/json",
        )
        assert changed.status == 200, changed.body
    return f"{mirror.url}/alice/private/+simple/"


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """The option of servers that share a secret."""
    folder = tmp_path_factory.mktemp("secret")
    folder.chmod(0o700)
    path = folder / "secret"
    path.write_text(base64.urlsafe_b64encode(secrets.token_bytes(64)).decode())
    path.chmod(0o600)
    return ["--secretfile", str(path)]
