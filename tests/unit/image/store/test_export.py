# SPDX-License-Identifier: GPL-3.0-or-later
"""How exports are compared, and how the data of an earlier release is imported."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.usefixtures("supervisor")


def test_exports_are_compared_by_what_matters(store, tmp_path):
    for name, order, modified in (("one", 1, "Mon"), ("two", -1, "Tue")):
        files = [{"relpath": path, "entrymapping": {"hashes": path, "last_modified": modified}} for path in ("a", "b")]
        (tmp_path / name).mkdir()
        content = {
            "users": {},
            "indexes": {"alice/private": {"files": files[::order]}, "root/pypi": {}},
            "devpi_server": name,
        }
        (tmp_path / name / "dataindex.json").write_text(json.dumps(content))
    assert store.export.read_export(tmp_path / "one") == store.export.read_export(tmp_path / "two")


def test_the_mirrors_of_an_export(store, tmp_path):
    types = {"root/pypi": "mirror", "root/other": "remote", "alice/private": "stage"}
    indexes = {name: {"indexconfig": {"type": kind}} for name, kind in types.items()}
    (tmp_path / "dataindex.json").write_text(json.dumps({"indexes": indexes}))
    assert store.export.exported_mirrors(tmp_path) == ["root/pypi", "root/other"]


@pytest.fixture
def earlier(store, create, monkeypatch, tmp_path):
    """The volume of an earlier release, with an export. ``imported`` lists devpi's commands."""
    folder = tmp_path / "earlier"
    create(folder, "one", 700)
    (folder / "root-password").write_text("password of one")
    (folder / "promotion.json").write_text('{"at": 5}')
    index = folder / "pages" / "root" / "pypi" / "0123"
    index.mkdir(parents=True)
    (index / "six.page").write_text("page")
    os.utime(index / "six.page", (5, 5))
    (folder / "export").mkdir()
    indexes = {"root/pypi": {"indexconfig": {"type": "mirror"}}, "alice/private": {"indexconfig": {"type": "stage"}}}
    users = {"alice": {"username": "alice"}, "bob": {"username": "bob", "pwhash": "$argon2id$bob"}}
    (folder / "export" / "dataindex.json").write_text(json.dumps({"users": users, "indexes": indexes}))
    imported = []
    (folder / "export" / "alice").mkdir()
    (folder / "export" / "alice" / "file").write_text("one")

    def run(_failure, _environ, *command):
        imported.append(
            (*command[:-1], {str(path.relative_to(command[-1])): path.read_text() for path in files_of(command[-1])})
        )

    monkeypatch.setattr(store.commands, "run", run)
    return SimpleNamespace(folder=folder, imported=imported)


def files_of(folder):
    """Return the files of an export, some of which are in linked folders."""
    return [Path(parent, name) for parent, _folders, names in os.walk(folder, followlinks=True) for name in names]


def test_the_data_of_an_earlier_release_is_imported(store, data, earlier):
    store.export.import_earlier(earlier.folder)
    ((*command, exported),) = earlier.imported
    assert (command, exported["alice/file"]) == (["devpi-import", "--no-events"], "one")
    users = json.loads(exported["dataindex.json"])["users"]
    # devpi-import would give her the empty password.
    assert users["alice"]["pwhash"] == store.export.UNKNOWN_PASSWORD
    assert users["bob"]["pwhash"] == "$argon2id$bob"
    assert list((data / "tmp").iterdir()) == []
    assert (data / "secret").read_text() == "secret of one"
    assert (data / "root-password").read_text() == "password of one"
    # So a server that was the primary before can't replace this one.
    assert (data / "promotion.json").read_text() == '{"at": 5}'
    page = data / "pages/root/pypi/0123/six.page"
    assert (page.read_text(), page.stat().st_mtime) == ("page", 5)
    server = data / "server"
    (file,) = [path for path in (server / "+files").rglob("*") if path.is_file()]
    assert (str(file.relative_to(server)), file.read_text()) == ("+files/root/pypi/+f/abc/def/one.whl", "one")
    # The earlier release serves from its own files until the new one has replaced it.
    assert file.stat().st_nlink == 1


def test_an_earlier_release_may_have_no_pages_and_no_promotion(store, data, earlier):
    shutil.rmtree(earlier.folder / "pages")
    (earlier.folder / "promotion.json").unlink()
    store.export.import_earlier(earlier.folder)
    assert (data / "secret").exists()
