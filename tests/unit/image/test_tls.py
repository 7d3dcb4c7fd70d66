# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates are accepted, how nginx serves them, and when their renewal is overdue."""

from __future__ import annotations

import io
import socket
import ssl
import subprocess
import threading

import pytest

DAY = 86_400


def issue(folder, name, days=90, kind="ec"):
    """Return a certificate and its key as PEM texts."""
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else ["-newkey", "rsa:2048"]
    key, certificate, request = (folder / f"{name}.{suffix}" for suffix in ("key", "pem", "csr"))
    subject = ["-subj", f"/CN={name}", "-keyout", str(key)]
    # "openssl req -x509" does not issue an expired certificate.
    subprocess.run(
        ["openssl", "req", "-new", *options, "-nodes", *subject, "-out", str(request)], check=True, capture_output=True
    )
    sign = ["openssl", "x509", "-req", "-in", str(request), "-signkey", str(key), "-days", str(days)]
    subprocess.run([*sign, "-out", str(certificate)], check=True, capture_output=True)
    return certificate.read_text(), key.read_text()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return issue(tmp_path_factory.mktemp("first"), "first")


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return issue(tmp_path_factory.mktemp("second"), "second", kind="rsa")


@pytest.fixture
def tls(load, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_RUN", str(tmp_path))
    module = load("tls")
    folder = tmp_path / "tls"
    folder.mkdir()
    monkeypatch.setattr(module, "TLS_DIRECTORY", folder)
    monkeypatch.setattr(module, "TLS_FILE", folder / "server.pem")
    monkeypatch.setattr(module, "SOCKET_DIRECTORY", tmp_path / "socket")
    return module


def store(tls, pair):
    tls.TLS_FILE.write_text("\n".join(pair))


def test_a_valid_pair_is_accepted(tls, first, second):
    for certificate, key in (first, second):
        tls.check(f"{certificate}\n{key}")
        # With the chain.
        tls.check(f"{certificate}{first[0]}\n{key}")


def test_an_invalid_pair_is_refused(tls, first, second, tmp_path):
    for pem, reason in {
        f"{first[0]}\n{second[1]}": "the key does not belong to the certificate",
        f"{second[0]}{first[0]}\n{first[1]}": "the key does not belong to the certificate",
        f"{first[0]}\n": "not a PEM certificate",
        f"{first[1]}\n": "not a PEM certificate",
        "": "not a PEM certificate",
        "\n".join(issue(tmp_path, "old", days=0)): "expired",
    }.items():
        if reason == "expired":
            tls.time = type("Time", (), {**vars(tls.time), "time": staticmethod(lambda: 4e9)})
        with pytest.raises(tls.CertificateError, match=reason) as raised:
            tls.check(pem)
        assert "PRIVATE KEY" not in str(raised.value)


def test_an_encrypted_key_is_refused_without_a_prompt(tls, first):
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret"]
    encrypted = subprocess.run(command, input=first[1], capture_output=True, text=True, check=True).stdout
    with pytest.raises(tls.CertificateError, match="unencrypted"):
        tls.check(f"{first[0]}\n{encrypted}")


def check_input(tls, monkeypatch, content):
    monkeypatch.setattr(tls.sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    # It sets the umask.
    monkeypatch.setattr(tls.os, "umask", lambda _mask: 0)
    return tls.main("check")


def test_a_binary_certificate_is_refused_with_the_reason(tls, first, monkeypatch, capsys):
    der = ssl.PEM_cert_to_DER_cert(first[0])
    assert check_input(tls, monkeypatch, b"\n".join([der, first[1].encode()])) == 1
    assert capsys.readouterr().out == "it is not a PEM certificate with its unencrypted key\n"


def test_a_comment_can_have_any_encoding(tls, first, monkeypatch, capsys):
    pair = b"\n".join(["Subject: O=Société".encode("latin-1"), *(part.encode() for part in first)])
    assert check_input(tls, monkeypatch, pair) == 0
    assert capsys.readouterr().err == ""
    tls.TLS_FILE.write_bytes(pair)
    assert tls.problem() == ""
    assert tls.expiry() == tls.validity(first[0]).end
    monkeypatch.setattr(tls, "served_certificate", lambda: ssl.PEM_cert_to_DER_cert(first[0]))
    tls.verify()


def test_a_certificate_of_the_future_is_refused(tls, first, monkeypatch):
    monkeypatch.setattr(tls.time, "time", lambda: 1e9)
    with pytest.raises(tls.CertificateError, match="not valid before"):
        tls.check("\n".join(first))


def test_the_check_leaves_no_copy_of_the_key(tls, first, monkeypatch, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    create = tls.tempfile.NamedTemporaryFile
    monkeypatch.setattr(tls.tempfile, "NamedTemporaryFile", lambda mode, **_options: create(mode, dir=copies))
    tls.check("\n".join(first))
    with pytest.raises(tls.CertificateError):
        tls.check(first[1])
    assert list(copies.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("         0          0 4294967295\n", 53141),
        ("         0     100000      65536\n", 153141),
        # Rootless mode.
        ("         0       1000          1\n         1     100000      65536\n", 153140),
        ("", 53141),
    ],
)
def test_the_owner_is_that_on_the_host(tls, table, expected):
    assert tls.host_id(53141, table) == expected


def test_nginx_listens_for_tls_with_a_usable_certificate_only(tls, first, second, capsys):
    tls.write_listeners()
    assert tls.LISTEN_CONF.read_text() == ""
    assert "it can't be read: No such file" in capsys.readouterr().err
    store(tls, (first[0], second[1]))
    tls.write_listeners()
    assert tls.LISTEN_CONF.read_text() == ""
    assert "the key does not belong to the certificate. The mirror serves HTTP only." in capsys.readouterr().err
    store(tls, first)
    tls.write_listeners()
    text = tls.LISTEN_CONF.read_text()
    assert text.startswith("listen 3443 ssl reuseport;\n")
    assert "ssl_protocols TLSv1.2 TLSv1.3;\n" in text
    assert "ssl_session_tickets off;\n" in text
    assert capsys.readouterr().err == ""


def test_without_tls_there_is_no_listener_and_no_problem(tls):
    tls.TLS_DIRECTORY.rmdir()
    tls.write_listeners()
    assert tls.LISTEN_CONF.read_text() == ""
    assert tls.problem() == ""


@pytest.mark.parametrize(
    ("life", "left", "expected"),
    [(90, 15, ""), (90, 13.5, ", in 13 days. "), (6, 2, ""), (6, 1.2, ", in 1 days. "), (90, -1, "has expired on ")],
)
def test_an_overdue_renewal_is_a_problem(tls, first, monkeypatch, life, left, expected):
    store(tls, first)
    now = 1_800_000_000
    monkeypatch.setattr(tls.time, "time", lambda: now)
    monkeypatch.setattr(tls, "validity", lambda _pem: tls.Validity(now + (left - life) * DAY, now + left * DAY))
    problem = tls.problem()
    assert expected in problem
    assert bool(problem) == bool(expected)
    assert tls.expiry() == now + left * DAY


def test_a_certificate_that_can_not_be_used_is_a_problem(tls, first, second):
    assert "it can't be read" in tls.problem()
    assert tls.expiry() is None
    store(tls, (first[0], second[1]))
    assert "the key does not belong to the certificate" in tls.problem()


def test_the_served_certificate_is_verified(tls, first, second, monkeypatch):
    store(tls, first)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.TLS_FILE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(tls, "TLS_PORT", listener.getsockname()[1])
        monkeypatch.setattr(tls, "SERVE_TIMEOUT", 0.5)

        def serve():
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        tls.verify()
        store(tls, second)
        with pytest.raises(tls.CertificateError, match="nginx does not serve it"):
            tls.verify()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
