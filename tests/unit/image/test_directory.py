# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that an LDAP server verifies: ldap_server.py, over TLS, and a running devpi-server."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from devpi_mirror.directory import CONNECTIONS, Directory
from devpi_servers import PASSWORD, log_in, page, prepare, request, running, set_upstream, upload
from pyramid.httpexceptions import HTTPServiceUnavailable

BASE = "dc=example,dc=com"
SEARCHER = f"cn=search,{BASE}"
SEARCH_PASSWORD = "of-the-searcher"
LDIF = f"""\
dn: {BASE}
objectClass: dcObject
dc: example

dn: {SEARCHER}
objectClass: person
cn: search
userPassword: {SEARCH_PASSWORD}

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: uid=ada,ou=people,{BASE}
objectClass: person
uid: ada
userPassword: of-ada

dn: uid=bob,ou=people,{BASE}
objectClass: person
uid: bob
userPassword: of-bob

dn: uid=root,ou=people,{BASE}
objectClass: person
uid: root
userPassword: of-root-in-ldap

dn: ou=groups,{BASE}
objectClass: organizationalUnit
ou: groups

dn: cn=developers,ou=groups,{BASE}
objectClass: groupOfNames
cn: developers
member: uid=ada,ou=people,{BASE}

"""
PEOPLE = f"ou=people,{BASE}"
TEMPLATE = {"user_template": f"uid={{username}},{PEOPLE}"}
ACCOUNT = {"userdn": SEARCHER, "password": SEARCH_PASSWORD}
USERS = {"base": PEOPLE, "filter": "(uid={username})", "attribute_name": "dn", **ACCOUNT}
GROUPS = {"base": f"ou=groups,{BASE}", "filter": "(member={userdn})", "attribute_name": "cn"}
SEARCH = {"user_search": USERS, "group_search": {**GROUPS, **ACCOUNT}}


@contextmanager
def serving(certificate: Path):
    """Run the LDAP server with the ports of its URLs."""
    command = [sys.executable, str(Path(__file__).with_name("ldap_server.py")), str(certificate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdin.write(LDIF)
            process.stdin.close()
            ldap, ldaps = process.stdout.readline().split()
            yield SimpleNamespace(process=process, ldap=f"ldap://localhost:{ldap}", ldaps=f"ldaps://localhost:{ldaps}")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two authorities, and the certificate of the server."""
    path = tmp_path_factory.mktemp("ldap")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(path / "other.pem")
    for name in ("localhost", "ldap.example.com"):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path / f"{name}.pem")
    return path


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder / "localhost.pem") as found:
        yield found


def write(folder: Path, url: str, options: dict, **others) -> Path:
    path = folder / "ldap.json"
    defaults = {"timeout": 2, "start_tls": False, "ca_file": str(folder / "ca.pem")}
    path.write_text(json.dumps({"devpi-ldap": {"url": url, **options}, **defaults, **others}))
    return path


@pytest.fixture
def directory(folder, server):
    """Return a function that creates a directory of the LDAP server, or of another URL."""
    return lambda options, url=server.ldaps, **others: Directory(write(folder, url, options, **others))


@pytest.mark.parametrize("options", [TEMPLATE, SEARCH], ids=["template", "search"])
def test_passwords(directory, options):
    users = directory(options)
    assert users.verify("ada", "of-ada")["status"] == "ok"
    for name, password in [("ada", "of-bob"), ("ada", ""), ("ada", " "), ("eve", "of-ada"), ("", "")]:
        assert users.verify(name, password) is None


@pytest.mark.parametrize("password", ["\x00", "\u00ad", "\ud800", "\n"])
def test_passwords_that_ldap_does_not_permit_are_wrong(directory, password):
    users = directory(SEARCH)
    assert users.verify("ada", password) is None
    assert users.verify("ada", "of-ada")


@pytest.mark.parametrize("name", ["ADA", "ada ", "*", "a*", "ada,ou=people", ":developers", "uid=ada", "ada\x00", "é"])
@pytest.mark.parametrize("options", [TEMPLATE, SEARCH], ids=["template", "search"])
def test_names_that_mean_another_user_are_unknown(directory, options, name):
    assert directory(options).verify(name, "of-ada") is None


def test_groups(directory):
    users = directory(SEARCH)
    assert users.verify("ada", "of-ada")["groups"] == ["developers"]
    assert users.verify("bob", "of-bob")["groups"] == []
    assert directory({**TEMPLATE, "group_search": GROUPS}).verify("ada", "of-ada")["groups"] == ["developers"]


def test_users_who_logged_in_earlier(directory):
    users = directory(SEARCH)
    assert users.current_groups("ada", []) == ["developers"]
    assert users.current_groups("bob", ["developers"]) == []
    assert users.current_groups("eve", ["developers"]) is None
    assert directory({"user_search": USERS, "group_search": GROUPS}).current_groups("ada", ["old"]) == ["old"]
    assert directory(TEMPLATE).current_groups("eve", ["old"]) == ["old"]


def test_start_tls(directory, server):
    assert directory(SEARCH, server.ldap, start_tls=True).verify("ada", "of-ada")
    with pytest.raises(HTTPServiceUnavailable):
        directory(SEARCH, server.ldap, start_tls=True, ca_file=None).verify("ada", "of-ada")


def test_an_ldap_server_without_start_tls_gets_no_password(directory, folder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        users = directory(TEMPLATE, f"ldap://localhost:{listener.getsockname()[1]}", start_tls=True, timeout=1)
        with pytest.raises(HTTPServiceUnavailable):
            users.verify("ada", "of-ada")
        connection, _address = listener.accept()
        with connection:
            received = connection.recv(65536)
    assert received
    assert b"of-ada" not in received


@pytest.mark.parametrize("ca_file", ["other.pem", None], ids=["another authority", "the system's authorities"])
@pytest.mark.parametrize("has_start_tls", [False, True], ids=["ldaps", "starttls"])
def test_a_certificate_of_another_authority_is_refused(directory, folder, server, ca_file, has_start_tls, capfd):
    url = server.ldap if has_start_tls else server.ldaps
    users = directory(TEMPLATE, url, start_tls=has_start_tls, ca_file=ca_file and str(folder / ca_file))
    with pytest.raises(HTTPServiceUnavailable) as caught:
        users.verify("ada", "of-ada")
    log = capfd.readouterr().out
    assert f"The LDAP server {url} can't verify passwords: " in log
    assert "certificate verify failed" in log
    # Not ldap3's printed tuples.
    assert "('" not in log
    assert "',)" not in log
    assert url not in str(caught.value)


@pytest.mark.parametrize("has_start_tls", [False, True], ids=["ldaps", "starttls"])
def test_a_certificate_of_another_host_is_refused(directory, folder, has_start_tls, capfd):
    with serving(folder / "ldap.example.com.pem") as other:
        users = directory(TEMPLATE, other.ldap if has_start_tls else other.ldaps, start_tls=has_start_tls)
        with pytest.raises(HTTPServiceUnavailable):
            users.verify("ada", "of-ada")
    assert "Hostname mismatch" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"password": "wrong"}, f"refuses the password of {SEARCHER}"),
        ({"base": "ou=nowhere"}, "search in ou=nowhere: noSuchObject"),
    ],
)
def test_a_failed_search_is_no_wrong_password(directory, change, reason, capfd):
    with pytest.raises(HTTPServiceUnavailable):
        directory({"user_search": {**USERS, **change}}).verify("ada", "of-ada")
    assert reason in capfd.readouterr().out


def connections(listener: socket.socket) -> int:
    """Return how many connections are waiting to be accepted, and close them."""
    listener.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def test_an_unreachable_server_is_tried_again_later(folder, capfd):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = write(folder, f"ldaps://localhost:{listener.getsockname()[1]}", TEMPLATE, timeout=1)
        now = SimpleNamespace(seconds=0.0)
        users = Directory(path, lambda: now.seconds)
        for _attempt in range(5):
            with pytest.raises(HTTPServiceUnavailable) as caught:
                users.verify("ada", "of-ada")
            assert caught.value.headers["Retry-After"] == "10"
        # Only the first one waits for the server's greeting.
        assert connections(listener) == 1
        assert capfd.readouterr().out.count("can't verify passwords") == 1
        now.seconds = 11
        with pytest.raises(HTTPServiceUnavailable):
            users.verify("ada", "of-ada")
        assert "can't verify passwords" in capfd.readouterr().out


def test_the_number_of_connections_is_limited(directory):
    users = directory(TEMPLATE, timeout=1)
    for _slot in range(CONNECTIONS):
        assert users.slots.acquire()
    with pytest.raises(HTTPServiceUnavailable):
        users.verify("ada", "of-ada")
    users.slots.release()
    assert users.verify("ada", "of-ada")


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def login(mirror, name: str, password: str) -> SimpleNamespace:
    return request(f"{mirror.url}/+login", "POST", {"user": name, "password": password}, X_Real_IP=name)


@pytest.fixture(scope="module")
def ldap_of_mirror(folder):
    """The LDAP server of the mirror, which a test stops."""
    with serving(folder / "localhost.pem") as found:
        yield found


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, upstream, folder, ldap_of_mirror):
    """A devpi-server with LDAP users. The group developers can upload to acme/dev, and ada read acme/secret."""
    path = tmp_path_factory.mktemp("mirror")
    (path / "ldap").mkdir()
    write(path / "ldap", ldap_of_mirror.ldaps, SEARCH, ca_file=str(folder / "ca.pem"))
    environ = {**prepare(path, []), "DEVPI_MIRROR_LDAP": str(path / "ldap")}
    with running(path, environ, ["--restrict-modify", "root"]) as found:
        found.auth = log_in(found.url)
        set_upstream(found.url, found.auth, upstream.url)
        for name, data in {
            "acme": {"password": "of-acme"},
            "acme/dev": {"bases": ["root/pypi"], "acl_upload": [":developers"], "acl_read": [":developers"]},
            "acme/secret": {"acl_read": ["ada"]},
            "ada": {"password": None},
        }.items():
            assert request(f"{found.url}/{name}", "PUT", data, X_Devpi_Auth=found.auth).status in (200, 201)
        yield found


def read(mirror, index: str, name: str, password: str) -> int:
    return request(f"{mirror.url}/{index}/+simple/", Accept="text/html", **basic(name, password)).status


def test_users_and_groups_in_acls(mirror):
    assert read(mirror, "acme/secret", "ada", "of-ada") == 200
    assert read(mirror, "acme/secret", "bob", "of-bob") == 403
    assert read(mirror, "acme/dev", "ada", "of-ada") == 200
    assert read(mirror, "acme/dev", "bob", "of-bob") == 403
    for name, password in [("ada", "wrong"), ("eve", "of-eve"), (":developers", "of-ada"), ("ada", "")]:
        assert read(mirror, "acme/dev", name, password) == 401


def test_logins(mirror):
    for name, password, status in [("ada", "of-ada", 200), ("ada", "wrong", 401), ("eve", "of-eve", 401)]:
        assert login(mirror, name, password).status == status
    token = log_in(mirror.url, "ada", "of-ada")
    assert request(f"{mirror.url}/acme/secret", X_Devpi_Auth=token).status == 200
    upload(f"{mirror.url}/acme/dev", "own", X_Devpi_Auth=token)
    upload(f"{mirror.url}/acme/dev", "two", **basic("ada", "of-ada"))


def test_malformed_logins(mirror):
    for data in ([], {"user": "ada", "password": 5}, {"user": 5, "password": "of-ada"}, {"user": "ada"}):
        assert request(f"{mirror.url}/+login", "POST", data).status in (400, 401, 500)
    assert login(mirror, "ada", "of-ada").status == 200


def test_users_with_a_password_in_devpi_are_not_those_of_the_ldap_server(mirror):
    assert login(mirror, "root", PASSWORD).status == 200
    assert login(mirror, "root", "of-root-in-ldap").status == 401
    assert login(mirror, "acme", "of-acme").status == 200


def test_users_of_the_ldap_server_get_no_password_in_devpi(mirror):
    changed = request(f"{mirror.url}/ada", "PATCH", {"password": "of-devpi"}, **basic("ada", "of-ada"))
    assert changed.status == 403
    changed = request(f"{mirror.url}/acme", "PATCH", {"password": "of-acme"}, **basic("acme", "of-acme"))
    assert changed.status == 200


def test_wrong_passwords_are_limited(mirror):
    def send(number):
        return request(f"{mirror.url}/acme/secret", **basic("bob", f"wrong-{number}"), X_Real_IP="192.0.2.9").status

    assert [send(number) for number in range(11)] == [401] * 10 + [429]


def test_the_password_of_the_account_for_searches_is_not_logged(mirror):
    assert SEARCH_PASSWORD not in mirror.log.read_text()


# The last test, as it stops the LDAP server.
def test_an_unreachable_ldap_server(mirror, ldap_of_mirror):
    token = log_in(mirror.url, "ada", "of-ada")
    assert read(mirror, "acme/secret", "ada", "of-ada") == 200
    ldap_of_mirror.process.kill()
    ldap_of_mirror.process.wait()
    # This password was verified within the last minute.
    assert read(mirror, "acme/secret", "ada", "of-ada") == 200
    unavailable = request(f"{mirror.url}/acme/secret", **basic("carl", "of-carl"))
    assert (unavailable.status, unavailable.headers["Retry-After"]) == (503, "10")
    assert request(f"{mirror.url}/acme/secret", X_Devpi_Auth=token).status == 503
    assert login(mirror, "ada", "of-ada").status == 503
    for number in range(12):
        assert login(mirror, "carl", f"password-{number}").status == 503
    assert login(mirror, "root", PASSWORD).status == 200
    assert read(mirror, "acme/secret", "root", PASSWORD) == 200
    assert page(mirror, "alpha", **basic("carl", "of-carl")).status == 200
    assert page(mirror, "alpha").status == 200
    assert mirror.log.read_text().count("can't verify passwords") == 1
