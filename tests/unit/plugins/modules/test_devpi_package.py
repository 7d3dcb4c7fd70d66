# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import email
import hashlib
import zipfile

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _api, _devpi
from ansible_collections.devpi.mirror.plugins.modules import devpi_package

LOGIN = {"url_username": "bot", "url_password": "secret"}


class FakeServer:
    """devpi with indexes, their releases, and the changes that it received. ``has_hashes`` is False for devpi 7."""

    def __init__(self):
        self.indexes = {
            "bot/dev": {"type": "stage", "volatile": True},
            "bot/rel": {"type": "stage", "volatile": False},
            "root/pypi": {"type": "mirror", "volatile": False},
        }
        self.releases = {"bot/dev": {}, "bot/rel": {}}
        self.has_hashes = True
        self.denied = set()
        self.failing_upload = None
        self.changes = []
        self.limits = []

    def from_server(self, settings):
        return settings

    def with_limit(self, limit):
        self.limits.append(limit)
        return self

    def find(self, path):
        path = path[1:]
        if path.endswith("?no_projects="):
            return self.indexes.get(path[: -len("?no_projects=")])
        index, project = path[: -len("?ignore_bases=")].rsplit("/", 1)
        versions = self.releases.get(index, {}).get(project)
        if versions is None:
            return None
        return {version: {"+links": self.links(index, files)} for version, files in versions.items()}

    def links(self, index, files):
        links = [{"rel": "doczip", "href": "http://x/bot/dev/+f/1/2/foo.doc.zip"}]
        for filename, sha256 in files.items():
            href = f"http://other/prefix/{index}/+f/{sha256[:3]}/{sha256[3:16]}/{filename.replace('!', '%21')}"
            hashes = {"hashes": {"sha256": sha256}} if self.has_hashes else {}
            links.append({"rel": "releasefile", "href": href, **hashes})
        return links

    def call(self, method, path, body=None):
        if method == "GET":
            assert not self.has_hashes
            user, index, first, second = (path.split("/")[position] for position in (1, 2, 4, 5))
            for versions in self.releases[f"{user}/{index}"].values():
                for files in versions.values():
                    for sha256 in files.values():
                        if sha256.startswith(first + second):
                            return {"hashes": {"sha256": sha256}}
        self.changes.append((method, path, body))
        if method == "POST":
            source = self.releases[path[1:]][body["name"]][body["version"]]
            self.releases[body["targetindex"]].setdefault(body["name"], {})[body["version"]] = dict(source)
        return None

    def upload(self, path, chunks, size, content_type):
        index = path.strip("/")
        body = b"".join(chunks)
        assert len(body) == size
        message = email.message_from_bytes(f"Content-Type: {content_type}\n\n".encode() + body)
        parts = {part.get_param("name", header="Content-Disposition"): part for part in message.get_payload()}
        form = {name: part.get_payload(decode=True) for name, part in parts.items()}
        if index in self.denied:
            raise _api.ApiError(403, "no permission to submit")
        if form[":action"] == b"check":
            raise _api.ApiError(400, "action 'check' not supported")
        filename = parts["content"].get_filename()
        if filename == self.failing_upload:
            raise _devpi.ProbeError(_devpi.UNREACHABLE, "the connection failed")
        self.changes.append(("upload", index, filename))
        start = body.index(b"octet-stream\r\n\r\n") + len(b"octet-stream\r\n\r\n")
        content = body[start : body.rindex(b"\r\n--")]
        versions = self.releases[index].setdefault("foo", {})
        versions.setdefault(form["version"].decode(), {})[filename] = hashlib.sha256(content).hexdigest()


@pytest.fixture(params=[True, False], ids=["devpi6", "devpi7"])
def server(request, monkeypatch):
    fake = FakeServer()
    fake.has_hashes = request.param
    monkeypatch.setattr(_api, "log_in", lambda params: fake)
    return fake


@pytest.fixture
def run(run_module):
    def call(check_mode=False, diff=False, **arguments):
        ended = run_module(devpi_package, {**LOGIN, **arguments}, check_mode, diff)
        return ended.result["msg"] if ended.failed else ended.result

    return call


@pytest.fixture
def build(tmp_path):
    """Return a function that writes a wheel and returns its path."""

    def write(version="1.0", extra="", folder="dist"):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / f"foo-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            # ZipInfo has a fixed date, so that two archives with the same files are equal.
            metadata = zipfile.ZipInfo(f"foo-{version}.dist-info/METADATA")
            archive.writestr(metadata, f"Name: foo\nVersion: {version}\n")
            archive.writestr(zipfile.ZipInfo("foo.py"), extra)
        return str(path)

    return write


def wheel(version):
    return f"foo-{version}-py3-none-any.whl"


def test_upload(server, run, build):
    files = [build("1.0"), build("1!2.0")]
    expected = {wheel("1.0"): "added", wheel("1!2.0"): "added"}
    checked = run(index="bot/rel", files=files, check_mode=True, diff=True)
    assert (checked["changed"], checked["files"], server.changes) == (True, expected, [])
    result = run(index="bot/rel", files=files, diff=True, transfer_timeout=7)
    assert result == checked
    assert result["diff"]["before"] == {}
    assert sorted(result["diff"]["after"]) == sorted(expected)
    assert [change[2] for change in server.changes] == list(expected)
    assert 7 in server.limits
    assert run(index="bot/rel", files=files) == {"changed": False, "files": dict.fromkeys(expected, "unchanged")}
    assert len(server.changes) == 2


def test_upload_needs_no_permission_for_identical_files(server, run, build):
    run(index="bot/dev", files=[build()])
    server.denied.add("bot/dev")
    assert run(index="bot/dev", files=[build()])["changed"] is False


@pytest.mark.parametrize("check_mode", [True, False])
def test_different_content(server, run, build, check_mode):
    for index in ("bot/dev", "bot/rel"):
        run(index=index, files=[build()])
    changed = [build("2.0"), build(extra="new", folder="other")]
    count = len(server.changes)
    message = run(index="bot/rel", files=changed, check_mode=check_mode)
    assert "bot/rel is not volatile, and has other content for foo-1.0-py3-none-any.whl" in message
    assert len(server.changes) == count
    result = run(index="bot/dev", files=changed, check_mode=check_mode)
    assert result["files"] == {wheel("2.0"): "added", wheel("1.0"): "replaced"}
    assert len(server.changes) == count + (0 if check_mode else 2)


@pytest.mark.parametrize("check_mode", [True, False])
def test_missing_permission(server, run, build, check_mode):
    server.denied.add("bot/dev")
    arguments = {"index": "bot/dev", "files": [build()], "check_mode": check_mode}
    assert "the user bot has no permission (no permission to submit)" in run(**arguments)
    assert server.changes == []


def test_missing_index(server, run, build):
    assert "the index bot/nope does not exist" in run(index="bot/nope", files=[build()])
    assert run(index="bot/nope", files=[build()], check_mode=True)["files"] == {wheel("1.0"): "added"}
    assert "root/pypi is a mirror index" in run(index="root/pypi", files=[build()])
    assert "'nope' is not a valid name of an index" in run(index="nope", files=[build()])


def test_invalid_files(server, run, build):
    assert "Could not read /nope/foo-1.0.tar.gz: No such file" in run(index="bot/dev", files=["/nope/foo-1.0.tar.gz"])
    assert "twice" in run(index="bot/dev", files=[build(), build(folder="other")])
    assert server.changes == []


def test_failed_upload(server, run, build):
    server.failing_upload = wheel("2.0")
    message = run(index="bot/dev", files=[build("1.0"), build("2.0"), build("3.0")])
    assert "Could not upload foo-2.0-py3-none-any.whl to bot/dev: the connection failed" in message
    assert f"Uploaded before it: {wheel('1.0')}. Not uploaded: {wheel('2.0')}, {wheel('3.0')}." in message


def test_upload_is_verified(server, run, build, monkeypatch):
    monkeypatch.setattr(server, "upload", lambda path, chunks, size, content_type: None)
    assert "does not have the content that was sent for foo-1.0" in run(index="bot/dev", files=[build()])


def test_too_large_upload():
    assert "larger than the server" in devpi_package.failure(_api.ApiError(413, "status 413"))


def test_copy(server, run, build):
    run(index="bot/dev", files=[build()])
    copy = {"index": "bot/rel", "copy_from": "bot/dev", "name": "Foo", "version": "1.0"}
    server.changes.clear()
    checked = run(check_mode=True, diff=True, **copy)
    assert (checked["files"], server.changes) == ({wheel("1.0"): "added"}, [])
    assert run(diff=True, **copy) == checked
    assert server.changes == [("POST", "/bot/dev", {"name": "foo", "version": "1.0", "targetindex": "bot/rel"})]
    assert run(**copy) == {"changed": False, "files": {wheel("1.0"): "unchanged"}}


def test_refused_copy(server, run, build):
    run(index="bot/dev", files=[build()])
    copy = {"index": "bot/rel", "copy_from": "bot/dev", "name": "foo"}
    assert "bot/dev has no files of foo 2.0. Nothing was changed. Its versions are: 1.0." in run(version="2.0", **copy)
    assert "copy_from and index are the same" in run(version="1.0", **{**copy, "index": "bot/dev"})
    assert "copy_from: root/pypi is a mirror index" in run(version="1.0", **{**copy, "copy_from": "root/pypi"})
    missing = {**copy, "copy_from": "bot/nope", "version": "1.0"}
    assert "copy_from: the index bot/nope does not exist" in run(**missing)
    assert run(check_mode=True, **missing) == {"changed": False, "files": {}}
    server.releases["bot/rel"] = {"foo": {"1.0": {wheel("1.0"): "0" * 64}}}
    assert "has other content for" in run(version="1.0", **copy)
    server.releases["bot/dev"]["foo"]["1.0"]["foo-1.0.tar.gz"] = "1" * 64
    server.releases["bot/rel"] = {"foo": {"1.0": {"foo-1.0.tar.gz": "1" * 64}}}
    assert "has a part of foo 1.0: foo-1.0.tar.gz. devpi can't copy the other files" in run(version="1.0", **copy)


@pytest.mark.parametrize(
    ("version", "path", "removed"),
    [("1.0+a", "/bot/dev/foo/1.0%2Ba", ["a.whl"]), (None, "/bot/dev/foo", ["a.whl", "b.whl"])],
)
def test_remove(server, run, version, path, removed):
    server.releases["bot/dev"] = {"foo": {"1.0+a": {"a.whl": "0" * 64}, "2.0": {"b.whl": "1" * 64}}}
    server.releases["bot/rel"] = server.releases["bot/dev"]
    arguments = {"name": "Foo", "state": "absent", **({"version": version} if version else {})}
    checked = run(index="bot/dev", check_mode=True, diff=True, **arguments)
    assert (checked["files"], server.changes) == (dict.fromkeys(removed, "removed"), [])
    assert run(index="bot/dev", diff=True, **arguments) == checked
    assert server.changes == [("DELETE", path, None)]
    assert "foo can't be removed, because the index bot/rel is not volatile" in run(index="bot/rel", **arguments)
    run(index="bot/rel", force=True, **arguments)
    assert server.changes[1:] == [("DELETE", path.replace("dev", "rel") + "?force", None)]
    for missing in ({"name": "bar"}, {"name": "foo", "version": "9"}):
        assert run(index="bot/rel", state="absent", **missing) == {"changed": False, "files": {}}


def test_remove_release_without_files(server, run):
    server.releases["bot/dev"] = {"foo": {"1.0": {}}}
    result = run(index="bot/dev", name="foo", version="1.0", state="absent")
    assert (result["changed"], result["files"]) == (True, {"foo 1.0": "removed"})


def test_file_without_hash(server, run, build, monkeypatch):
    server.releases["bot/dev"] = {"foo": {"1.0": {wheel("1.0"): ""}}}
    monkeypatch.setattr(server, "call", lambda method, path: {"hash_spec": "md5=1"})
    assert "bot/dev has no SHA-256 hash of foo-1.0-py3-none-any.whl" in run(index="bot/dev", files=[build()])


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"copy_from": "bot/dev"},
        {"copy_from": "bot/dev", "name": "foo"},
        {"state": "absent"},
        {"state": "absent", "version": "1"},
        {"state": "absent", "name": "foo", "version": "1", "copy_from": "bot/rel"},
        {"files": ["a"], "name": "foo"},
    ],
)
def test_invalid_arguments(server, run, arguments):
    assert isinstance(run(index="bot/dev", **arguments), str)
    assert server.changes == []
