# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of servers, of which the image's Python 3.13 rejects some by default that installers accept."""

from __future__ import annotations

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

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


@pytest.fixture
def company(tmp_path, monkeypatch):
    """The URL of a server whose certificate is its own authority, without a key usage."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_checks_of_other_servers_accept_them_too(load, company):
    # It responds to no method.
    assert load("maintenance.probe").request(company, "GET").error == "it responds with status 501"
