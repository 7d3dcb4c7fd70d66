# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _api
from ansible_collections.devpi.mirror.plugins.modules import devpi_token

LOGIN = {"url_username": "root", "url_password": "secret"}
UPLOAD = {"user": "bot", "allowed": ["upload"], "indexes": ["bot/dev"], "projects": ["Foo.Bar"]}
LINES = ["allowed=upload", "expires=4000000000", "indexes=bot/dev", "projects=foo-bar"]


class FakeServer:
    """devpi with the user bot and its tokens, None without the plugin."""

    def __init__(self):
        self.tokens = {}
        self.changes = []

    def find(self, path):
        if path == "/bot":
            return {}
        if path == "/bot/+tokens" and self.tokens is not None:
            return {"tokens": {name: {"restrictions": lines} for name, lines in self.tokens.items()}}
        return None

    def call(self, method, path, body=None):
        self.changes.append((method, path, body))
        if method == "DELETE":
            del self.tokens[path.rsplit("/", 1)[-1]]
            return None
        body = {"expires": "4000000000", **body}
        lines = [f"{name}={value if isinstance(value, str) else ','.join(value)}" for name, value in body.items()]
        self.tokens[f"id{len(self.tokens)}"] = lines
        return {"token": "devpi-secret"}


@pytest.fixture
def server(monkeypatch):
    fake = FakeServer()
    monkeypatch.setattr(_api, "log_in", lambda params: fake)
    return fake


@pytest.fixture
def run(run_module):
    def call(check_mode=False, diff=False, **arguments):
        ended = run_module(devpi_token, {**LOGIN, **arguments}, check_mode, diff)
        return ended.result["msg"] if ended.failed else ended.result

    return call


def test_create(server, run):
    checked = run(check_mode=True, diff=True, **UPLOAD)
    after = {"new token": ["allowed=upload", "indexes=bot/dev", "projects=foo-bar"]}
    assert checked == {"changed": True, "tokens": {}, "diff": {"before": {}, "after": after}}
    assert server.changes == []
    result = run(diff=True, **UPLOAD)
    assert result["token"] == "devpi-secret"
    assert result["tokens"] == {"id0": LINES}
    assert result["diff"] == {"before": {}, "after": {"id0": LINES}}
    body = {"allowed": ["upload"], "indexes": ["bot/dev"], "projects": ["foo-bar"]}
    assert server.changes == [("POST", "/bot/+token-create", body)]
    assert run(**UPLOAD) == {"changed": False, "tokens": {"id0": LINES}}


def test_delete(server, run):
    server.tokens = {"a": LINES, "b": ["expires=1", *LINES[:1], *LINES[2:]], "c": ["expires=never"]}
    checked = run(state="absent", check_mode=True, diff=True, **UPLOAD)
    assert (checked["changed"], sorted(checked["diff"]["before"]), server.changes) == (True, ["a", "b"], [])
    assert run(state="absent", diff=True, **UPLOAD) == checked
    assert list(server.tokens) == ["c"]
    assert run(state="absent", **UPLOAD) == {"changed": False, "tokens": {}}


@pytest.mark.parametrize(
    ("lines", "arguments", "is_found"),
    [
        (["expires=never"], {}, True),
        (["expires=4000000000"], {}, True),
        (["expires=1"], {}, False),
        ([], {}, True),
        (["expires=never", "allowed=upload"], {}, False),
        (["expires=never", "not_before=5"], {}, False),
        (["expires=never"], {"allowed": ["upload"]}, False),
        (["allowed=pkg_read,upload", "expires=never"], {"allowed": ["upload", "pkg_read"]}, True),
        (["allowed=upload", "expires=never"], {"allowed": ["upload", "pkg_read"]}, False),
        (["expires=never", "projects=Foo__Bar"], {"projects": ["foo.bar"]}, True),
        (["expires=never", "indexes=bot/dev"], {"indexes": ["bot/dev/"]}, True),
        (["expires=never"], {"expires": "never"}, True),
        (["expires=4000000000"], {"expires": "never"}, False),
        (["expires=4000000000"], {"expires": "4000000000"}, True),
        (["expires=4000000000"], {"expires": "2096-10-02T07:06:40Z"}, True),
        (["expires=4000000000"], {"expires": "2096-10-02T09:06:40+02:00"}, True),
        (["expires=3999974400"], {"expires": "2096-10-02"}, True),
    ],
)
def test_identity(server, run, lines, arguments, is_found):
    server.tokens = {"a": lines}
    assert run(user="bot", **arguments)["changed"] is not is_found


def test_expires_is_sent(server, run):
    run(user="bot", expires="2096-10-02")
    assert server.changes == [("POST", "/bot/+token-create", {"expires": "3999974400"})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"allowed": []}, "allowed is empty, which permits nothing"),
        ({"indexes": []}, "indexes is empty"),
        ({"allowed": ["uplaod"]}, "must be one or more of"),
        ({"indexes": ["dev"]}, "'dev' is not a valid name of an index"),
        ({"indexes": ["a/b,c/d"]}, "is not a valid name of an index"),
        ({"indexes": ["a/b,c"]}, "is not a valid name of an index"),
        ({"projects": ["a,b"]}, "not a valid name"),
        ({"expires": "soon"}, "expires is 'soon'. Nothing was changed. Set it to a date"),
        ({"expires": "2001-01-01"}, "in the past"),
        ({"expires": str(int(time.time()) - 1)}, "in the past"),
    ],
)
def test_invalid_arguments(server, run, arguments, message):
    assert message in run(user="bot", **arguments)
    assert server.changes == []


def test_delete_expired(server, run):
    server.tokens = {"a": ["expires=978307200"]}
    assert run(user="bot", state="absent", expires="2001-01-01")["changed"]


def test_missing_user(server, run):
    assert "The user eve does not exist" in run(user="eve")
    assert run(user="eve", check_mode=True)["changed"]
    assert run(user="eve", state="absent") == {"changed": False, "tokens": {}}


def test_missing_plugin(server, run):
    server.tokens = None
    for state in ("present", "absent"):
        assert "its plugin devpi-tokens is not installed" in run(user="bot", state=state)


def test_missing_permission(server, run, monkeypatch):
    def refuse(method, path, body=None):
        raise _api.ApiError(403, "Not allowed to create token with no expiration")

    monkeypatch.setattr(server, "call", refuse)
    message = run(user="bot", expires="never")
    assert "the user root has no permission (Not allowed to create token with no expiration)" in message
    assert "of root or of a user whom --restrict-modify names" in message
