# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of an LDAP server: what they can read, what works without the server, and who can read the password of the searches."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import JSON, Mirror, address, on_host, until, wheel_upload
from plays import succeed

mirror = Mirror()
FOLDER = "/etc/devpi-mirror-ldap"
PRIVATE = "/acme/stable/+simple/"
PAGE = f"{PRIVATE}alpha/"
# Both are valid in the directory.
PASSWORD = "first-search-password"
NEW_PASSWORD = "second-search-password"
READ_HASH = "docker inspect --format '{{index .Config.Labels \"devpi.mirror.config\"}}' devpi"
# Prints the files that all users can read and that contain a text of the file /root/secrets.
FIND_SECRETS = (
    "find /etc /home /opt /root /run /tmp /usr/local /var -xdev -path /var/lib/docker -prune -o -type f -perm -o=r"
    " -exec grep -lF -f /root/secrets {} + || true"
)
# Prints the arguments of all processes.
LIST_ARGUMENTS = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true"
# Records the processes that have a secret in their arguments, each time that they are listed.
WATCH_ARGUMENTS = (
    "while sleep 0.1; do cat /proc/[0-9]*/cmdline 2>/dev/null | grep -aF -f /root/secrets >>/root/leaks; done"
)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(on_host("cat /etc/ssl/mirror/ca.pem"))
    return str(path)


def send(ca: str, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Send a request over TLS, and return the status and the body. Names of headers have underscores instead of hyphens."""
    connection = http.client.HTTPSConnection(address(), 443, timeout=60, context=ssl.create_default_context(cafile=ca))
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def log_in(ca: str, name: str, password: str) -> tuple[int, str]:
    """Log in as ``devpi login`` does, and return the status and the body."""
    body = json.dumps({"user": name, "password": password}).encode()
    return send(ca, "POST", "/+login", body, Accept="application/json", Content_Type="application/json")


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def download(ca: str, folder: Path, index: str, project: str, user: str = "") -> list[str]:
    """Download a project with pip, and return the names of the files."""
    url = f"https://{user}{address()}{index}"
    options = ["--isolated", "--disable-pip-version-check", "--no-input", "--cert", ca, "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "download", *options, "--index-url", url, "--dest", str(folder), project]
    bundles = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    environ = {name: text for name, text in os.environ.items() if not name.startswith(("PIP_", *bundles))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(path.name for path in folder.iterdir())


def container_state() -> str:
    return on_host("docker inspect --format '{{.Id}} {{.State.StartedAt}}' devpi")


def config_hash() -> str:
    return on_host(READ_HASH).strip()


def test_users_of_a_group_upload_and_read(ca: str, tmp_path: Path) -> None:
    status, text = log_in(ca, "ada", "password-of-ada")
    assert status == 200, text
    token = base64.b64encode(f"ada:{json.loads(text)['result']['password']}".encode()).decode()
    body, content_type = wheel_upload("ours", "1.0")
    status, text = send(ca, "POST", "/acme/stable/", body, X_Devpi_Auth=token, Content_Type=content_type)
    assert status == 200, text
    assert send(ca, "GET", PAGE, X_Devpi_Auth=token)[0] == 200
    assert download(ca, tmp_path, PRIVATE, "ours", "ada:password-of-ada@") == ["ours-1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("name", "password", "login", "read"),
    [
        ("ada", "wrong", 401, 401),
        # LDAP servers accept an empty password as an anonymous login.
        ("ada", "", 401, 401),
        ("unknown", "password-of-ada", 401, 401),
        # In no group.
        ("bob", "password-of-bob", 200, 403),
    ],
)
def test_others_are_refused(ca: str, name: str, password: str, login: int, read: int) -> None:
    assert log_in(ca, name, password)[0] == login
    assert send(ca, "GET", PAGE, Accept=JSON, Authorization=basic(name, password))[0] == read
    assert send(ca, "GET", PAGE, Accept=JSON)[0] == 401


@pytest.fixture
def unavailable(ca: str) -> Iterator[None]:
    """Restore the LDAP server after a test."""
    yield
    on_host("ln -sfn known.pem /etc/ssl/ldap/server.pem && systemctl restart ldap")
    # The mirror pauses after it has found the server unavailable.
    until(lambda: log_in(ca, "bob", "password-of-bob")[0] == 200, "the mirror does not try again")


def assert_only_ldap_users_are_refused(ca: str, folder: Path) -> None:
    status, text = log_in(ca, "bob", "password-of-bob")
    assert status == 503, text
    assert "The mirror's log has the reason" in text
    password = mirror.run("cat /data/root-password")
    assert log_in(ca, "root", password)[0] == 200
    assert send(ca, "GET", PAGE, Accept=JSON, Authorization=basic("root", password))[0] == 200
    assert "alpha-1.0-py3-none-any.whl" in download(ca, folder, "/root/pypi/+simple/", "alpha")


@pytest.mark.usefixtures("unavailable")
def test_packages_and_root_do_not_need_the_ldap_server(ca: str, tmp_path: Path) -> None:
    on_host("ln -sfn unknown.pem /etc/ssl/ldap/server.pem && systemctl restart ldap")
    assert_only_ldap_users_are_refused(ca, tmp_path / "unknown")
    (line,) = [line for line in mirror.log().splitlines() if line.startswith("The LDAP server ")]
    assert line.startswith("The LDAP server ldaps://192.0.2.1 can't verify passwords: ")
    assert "CERTIFICATE_VERIFY_FAILED" in line
    on_host("systemctl stop ldap")
    assert_only_ldap_users_are_refused(ca, tmp_path / "stopped")


@pytest.fixture
def watched() -> Iterator[None]:
    """Watch the arguments of all processes during a test."""
    on_host(f"umask 077 && {{ printf '%s\\n' {PASSWORD} {NEW_PASSWORD}; {READ_HASH}; }} >/root/secrets")
    on_host(f'systemd-run --unit watch-arguments sh -c "{WATCH_ARGUMENTS}"')
    yield
    on_host("systemctl stop watch-arguments")
    assert on_host("cat /root/leaks") == ""


@pytest.mark.usefixtures("watched")
def test_a_changed_search_password_is_applied_and_stays_secret(ca: str) -> None:
    before, old_hash = container_state(), config_hash()
    variables = {"search_password": NEW_PASSWORD}
    checked = succeed("devpi.mirror.site", "--check", "--diff", "-vvv", variables=variables)
    assert container_state() == before
    applied = succeed("devpi.mirror.site", "--diff", "-vvv", variables=variables)
    assert applied.changed == checked.changed != []
    assert container_state() != before
    assert log_in(ca, "bob", "password-of-bob")[0] == 200
    places = {
        "output": checked.output + applied.output,
        "container": on_host("docker inspect devpi"),
        "log": mirror.log() + on_host("journalctl --no-pager"),
        "arguments": on_host(LIST_ARGUMENTS),
    }
    assert [name for name, text in places.items() if PASSWORD in text or NEW_PASSWORD in text] == []
    # The hash includes passwords, which could be guessed with it.
    assert config_hash() != old_hash
    on_host(f"{READ_HASH} >>/root/secrets")
    assert config_hash() not in places["arguments"]
    assert on_host(FIND_SECRETS) == ""


def test_only_the_mirror_can_read_the_options() -> None:
    listed = on_host(f"stat --format '%a %u:%g %F %n' {FOLDER} {FOLDER}/*").splitlines()
    assert listed == [
        f"700 53141:0 directory {FOLDER}",
        f"400 53141:0 regular file {FOLDER}/ca.pem",
        f"400 53141:0 regular file {FOLDER}/ldap.json",
    ]
