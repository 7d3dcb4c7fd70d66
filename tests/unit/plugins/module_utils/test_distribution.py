# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import email
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _distribution

METADATA = (
    "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: Größe\nRequires-Python: >=3.8\n"
    "Classifier: A\nClassifier: B\nContent: unknown\n\nA description\n"
)


def write_wheel(folder, filename, name="Foo.Bar", version="1.0", member="foo_bar-1.0.dist-info/METADATA"):
    path = folder / filename
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("foo/vendor/other.dist-info/METADATA", "Name: other\nVersion: 9\n")
        archive.writestr(member, METADATA.format(name=name, version=version))
    return str(path)


def write_sdist(folder, filename, name="Foo.Bar", version="1.0"):
    content = METADATA.format(name=name, version=version).encode()
    path = folder / filename
    if filename.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("foo-1.0/PKG-INFO", content)
        return str(path)
    with tarfile.open(path, "w:gz") as tar:
        for member in ("foo-1.0/src/foo.egg-info/PKG-INFO", "foo-1.0/PKG-INFO"):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content if member.count("/") == 1 else b"x" * len(content)))
    return str(path)


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("foo_bar-1.0-py3-none-any.whl", "1.0"),
        ("Foo.Bar-1.0-1build-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "1.0"),
        ("foo_bar-1!1.0+local.1-py2.py3-none-any.whl", "1!1.0+local.1"),
        ("foo_bar-1.0_local.1-py3-none-any.whl", "1.0+local.1"),
    ],
)
def test_wheel(tmp_path, filename, version):
    found = _distribution.read(write_wheel(tmp_path, filename, version=version))
    assert (found.filename, found.name, found.project, found.version) == (filename, "Foo.Bar", "foo-bar", version)
    content = (tmp_path / filename).read_bytes()
    assert (found.sha256, found.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert found.fields == [
        ("metadata_version", "2.1"),
        ("summary", "Größe"),
        ("classifiers", "A"),
        ("classifiers", "B"),
        ("requires_python", ">=3.8"),
        ("description", "A description\n"),
    ]


@pytest.mark.parametrize("filename", ["foo_bar-1.0.tar.gz", "Foo.Bar-1.0.zip", "foo-bar-1.0.tar.gz"])
def test_sdist(tmp_path, filename):
    found = _distribution.read(write_sdist(tmp_path, filename))
    assert (found.project, found.version) == ("foo-bar", "1.0")


@pytest.mark.parametrize(
    "filename",
    [
        "foo_bar-1.0-py3-none.whl",
        "foo-bar-1.0-py3-none-any.whl",
        "foo_bar-1.0.tar.bz2",
        "foo_bar.tar.gz",
        "_foo-1.0.tar.gz",
        'foo_bar-1.0".tar.gz',
        "foo_bar-1.0\n.tar.gz",
        "foo_bar-1.0.TAR.GZ",
        "fö-1.0.tar.gz",
    ],
)
def test_invalid_name(tmp_path, filename):
    with pytest.raises(ValueError, match="its name is not that of a wheel"):
        _distribution.read(str(tmp_path / filename))


def test_name_differs_from_metadata(tmp_path):
    for filename in ("foo_bar-2.0-py3-none-any.whl", "foo_baz-1.0-py3-none-any.whl"):
        with pytest.raises(ValueError, match="does not match its metadata, which is that of Foo"):
            _distribution.read(write_wheel(tmp_path, filename))


def test_invalid_file(tmp_path):
    for filename in ("foo-1.0.tar.gz", "foo-1.0.zip"):
        path = tmp_path / filename
        with pytest.raises(ValueError, match="No such file"):
            _distribution.read(str(path))
        path.write_bytes(b"text")
        with pytest.raises(ValueError, match="it is damaged"):
            _distribution.read(str(path))
    whole = write_sdist(tmp_path, "foo_bar-1.0.tar.gz")
    truncated = tmp_path / "foo-1.0.tar.gz"
    truncated.write_bytes((tmp_path / "foo_bar-1.0.tar.gz").read_bytes()[:60])
    with pytest.raises(ValueError, match="it is damaged"):
        _distribution.read(str(truncated))
    assert _distribution.read(whole).version == "1.0"


def test_invalid_metadata(tmp_path, monkeypatch):
    wheel = "foo_bar-1.0-py3-none-any.whl"
    with pytest.raises(ValueError, match="it has no METADATA"):
        _distribution.read(write_wheel(tmp_path, wheel, member="METADATA"))
    with pytest.raises(ValueError, match="invalid name 'a/b'"):
        _distribution.read(write_wheel(tmp_path, wheel, name="a/b"))
    with pytest.raises(ValueError, match="or version '1 0'"):
        _distribution.read(write_wheel(tmp_path, wheel, version="1 0"))
    monkeypatch.setattr(_distribution, "_METADATA_LIMIT", 10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        _distribution.read(write_wheel(tmp_path, wheel))


def parse(form):
    """Return the parts of a form by their names, and the size of the form."""
    chunks, size, content_type = form
    body = b"".join(chunks)
    message = email.message_from_bytes(f"Content-Type: {content_type}\n\n".encode() + body)
    found = {}
    for part in message.get_payload():
        name = part.get_param("name", header="Content-Disposition")
        found.setdefault(name, []).append(part.get_payload(decode=True))
    return found, size, body


def test_form(tmp_path):
    path = write_wheel(tmp_path, "foo_bar-1.0-py3-none-any.whl")
    found, size, body = parse(_distribution.form(_distribution.read(path)))
    assert size == len(body)
    assert found[":action"] == [b"file_upload"]
    assert (found["name"], found["version"]) == ([b"Foo.Bar"], [b"1.0"])
    assert found["summary"] == ["Größe".encode()]
    assert found["classifiers"] == [b"A", b"B"]
    content = Path(path).read_bytes()
    assert (
        b'filename="foo_bar-1.0-py3-none-any.whl"\r\nContent-Type: application/octet-stream\r\n\r\n' + content in body
    )


def test_probe_form():
    found, size, body = parse(_distribution.probe_form("foo"))
    assert found == {":action": [b"check"], "name": [b"foo"]}
    assert size == len(body)


def test_normalized():
    assert _distribution.normalized("Foo__.Bar") == "foo-bar"
    for name in ("", "-foo", "foo/bar", "foo bar", "fö"):
        with pytest.raises(ValueError, match="not a valid name of a project"):
            _distribution.normalized(name)
