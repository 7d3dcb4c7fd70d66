"""The credentials of the upstream, which the image's upstream.py takes out of its URL."""

from __future__ import annotations

import base64

import httpx
import pytest


@pytest.mark.parametrize(
    ("configured", "url", "credentials"),
    [
        ("", "", ""),
        ("https://example.com/simple/", "https://example.com/simple/", ""),
        ("https://bob:secret@example.com/simple/", "https://example.com/simple/", "bob:secret"),
        ("https://bob:s3cr%25t%40x@example.com:8443/simple/", "https://example.com:8443/simple/", "bob:s3cr%t@x"),
        ("https://bob:p@ss@example.com/simple/", "https://example.com/simple/", "bob:p@ss"),
        ("https://bob:a:b@example.com/", "https://example.com/", "bob:a:b"),
        ("https://token@[::1]:80/", "https://[::1]:80/", "token:"),
    ],
)
def test_credentials_are_taken_out_of_the_url(load, configured, url, credentials):
    upstream = load("upstream").read_upstream({"DEVPI_MIRROR_UPSTREAM_URL": configured})
    assert upstream.url == url
    assert base64.b64decode(upstream.authorization.removeprefix("Basic ")).decode() == credentials


@pytest.mark.parametrize(
    ("url", "is_sent"),
    [
        ("https://example.com/files/a.whl", True),
        ("https://example.com:443/files/a.whl", True),
        ("https://EXAMPLE.com/files/a.whl", True),
        ("http://example.com/files/a.whl", False),
        ("https://example.com:8443/files/a.whl", False),
        ("https://files.example.com/a.whl", False),
        ("https://example.com.evil.example/a.whl", False),
        ("https://bob@evil.example/https://example.com/", False),
    ],
)
def test_credentials_are_sent_to_the_upstream_only(load, monkeypatch, url, is_sent):
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_URL", "https://bob:secret@example.com/simple/")
    request = httpx.Request("GET", url)
    load("server").authenticate(request)
    assert ("Authorization" in request.headers) == is_sent


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://example.com/a.whl", "https://files.example.com/a.whl"),
        # httpx itself keeps credentials here.
        ("http://example.com/a.whl", "https://example.com/a.whl"),
    ],
)
def test_credentials_do_not_follow_a_redirect_to_another_origin(load, monkeypatch, first, second):
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_URL", f"{first.partition(':')[0]}://bob:secret@example.com/simple/")
    seen = {}

    def answer(request):
        seen[str(request.url)] = request.headers.get("Authorization")
        return httpx.Response(302, headers={"Location": second}) if request.url == first else httpx.Response(200)

    client = httpx.Client(transport=httpx.MockTransport(answer), event_hooks={"request": [load("server").authenticate]})
    assert client.get(first, follow_redirects=True).status_code == 200
    assert seen == {first: "Basic Ym9iOnNlY3JldA==", second: None}


def test_credentials_of_another_kind_are_left_alone(load, monkeypatch):
    monkeypatch.setenv("DEVPI_MIRROR_UPSTREAM_URL", "https://bob:secret@example.com/simple/")
    request = httpx.Request("GET", "https://primary.example/", headers={"Authorization": "Bearer token"})
    load("server").authenticate(request)
    assert request.headers["Authorization"] == "Bearer token"
