# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of servers, of which the image's Python 3.13 rejects some by default that installers accept."""

from __future__ import annotations

import ssl

import pytest
from devpi_server.httpclient import HTTPClient


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """Make ``ssl`` as strict as that of Python 3.13."""

    def create_strict(**options):
        context = create(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    create = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", create_strict)


def check(context):
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_authorities_without_a_key_usage_are_accepted(load):
    check(load("certificates").ssl_context())


def test_replicas_accept_them_too(load, monkeypatch):
    patches = load("patches")
    (patch,) = (patch for patch in patches.PATCHES if patch.target.endswith("._ssl_context"))
    owner, name = patches.resolve(patch.target)
    monkeypatch.setattr(owner, name, patch.replace(getattr(owner, name)))
    check(HTTPClient(component_name="test", timeout=1)._ssl_context)
