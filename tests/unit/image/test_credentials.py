# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials of an upstream, which the image's credentials.py takes out of its URL."""

from __future__ import annotations

import base64

import httpx
import pytest
from devpi_mirror.credentials import split_credentials


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
def test_credentials_are_removed_from_the_url(configured, url, credentials):
    found = split_credentials(configured)
    assert found.url == url
    assert base64.b64decode(found.authorization.removeprefix("Basic ")).decode() == credentials


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
def test_credentials_are_sent_to_the_upstream_only(url, is_sent):
    request = httpx.Request("GET", url)
    split_credentials("https://bob:secret@example.com/simple/").authenticate(request)
    assert ("Authorization" in request.headers) == is_sent


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://example.com/a.whl", "https://files.example.com/a.whl"),
        # httpx itself keeps credentials here.
        ("http://example.com/a.whl", "https://example.com/a.whl"),
    ],
)
def test_credentials_do_not_follow_a_redirect_to_another_origin(first, second):
    credentials = split_credentials(f"{first.partition(':')[0]}://bob:secret@example.com/simple/")
    seen = {}

    def answer(request):
        seen[str(request.url)] = request.headers.get("Authorization")
        return httpx.Response(302, headers={"Location": second}) if request.url == first else httpx.Response(200)

    hooks = {"request": [credentials.authenticate]}
    client = httpx.Client(transport=httpx.MockTransport(answer), event_hooks=hooks)
    assert client.get(first, follow_redirects=True).status_code == 200
    assert seen == {first: "Basic Ym9iOnNlY3JldA==", second: None}


def test_other_authorization_headers_are_not_changed():
    credentials = split_credentials("https://bob:secret@example.com/simple/")
    request = httpx.Request("GET", "https://primary.example/", headers={"Authorization": "Bearer token"})
    credentials.authenticate(request)
    assert request.headers["Authorization"] == "Bearer token"


def test_without_credentials_no_header_is_added():
    request = httpx.Request("GET", "https://example.com/a.whl")
    split_credentials("https://example.com/simple/").authenticate(request)
    assert "Authorization" not in request.headers
