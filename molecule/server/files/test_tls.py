# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients get from a mirror over TLS, and how its certificate is renewed."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import JSON, LOST, Mirror, address, on_host, until
from plays import run_play, succeed

SOURCE = "/etc/ssl/mirror"
STORED = "/etc/devpi-mirror-tls"
APPLY = "sh /etc/devpi-mirror.sh certificate"
PAGE = "/root/pypi/+simple/alpha/"
LARGE = "/root/pypi/+simple/large/"
mirror = Mirror()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(on_host(f"cat {SOURCE}/ca.pem"))
    return str(path)


@pytest.fixture
def source() -> Iterator[None]:
    """Restore the certificate and the key that the mirror serves after a test that replaces them."""
    on_host(f"rm -rf {SOURCE}-saved && cp -a {SOURCE} {SOURCE}-saved")
    yield
    on_host(f"rm -rf {SOURCE} && mv {SOURCE}-saved {SOURCE}")


def connect(ca: str) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(address(), 443, timeout=60, context=ssl.create_default_context(cafile=ca))


def ask(ca: str, path: str, **headers: str) -> tuple[int, str]:
    """Send a request over TLS on a new connection, and return the status and the body."""
    connection = connect(ca)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


def curl(ca: str, path: str, *options: str) -> str:
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--cacert",
        ca,
        "--resolve",
        f"mirror.test:443:{address()}",
        *options,
    ]
    done = subprocess.run([*command, f"https://mirror.test{path}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def over_http(path: str, **headers: str) -> str:
    """Send a request over HTTP on the test host, and return the body."""
    url = f"http://127.0.0.1:3141{path}"
    send = f"r.build_opener().open(r.Request({url!r}, headers={headers}))"
    script = f"import urllib.request as r; print({send}.read().decode(), end='')"
    return on_host(f"python3 -c {shlex.quote(script)}")


def client_environment() -> dict[str, str]:
    """Return the environment of an installer without the configuration and the CA bundle of the controller's user."""
    bundles = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return {name: text for name, text in os.environ.items() if not name.startswith(("PIP_", "UV_", *bundles))}


def serial() -> str:
    """Return the serial number of the certificate that the mirror serves."""
    pem = ssl.get_server_certificate((address(), 443))
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True
    )
    return done.stdout


def container_state() -> str:
    return on_host("docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.State.Pid}}' devpi")


def key_lines() -> list[str]:
    """Return the lines of the key, without the first, which all keys share, and the last, which is short."""
    return on_host(f"cat {SOURCE}/key.pem").splitlines()[2:-2]


def assert_no_key(output: str) -> None:
    # JSON escapes the line ends, and a diff indents the lines.
    assert not [line for line in key_lines() if line in output]


@contextmanager
def continuous_requests(ca: str) -> Iterator[list[str]]:
    """Request pages and the API on new connections all the time. Yields a list with the failures."""
    failures: list[str] = []
    sent = [0]
    stop = threading.Event()

    def request(path: str) -> None:
        while not stop.is_set():
            try:
                status, _body = ask(ca, path)
                sent[0] += 1
                if status != 200:
                    failures.append(f"{path}: {status}")
            except LOST as exc:
                failures.append(f"{path}: {exc!r}")

    threads = [threading.Thread(target=request, args=(path,)) for path in (PAGE, PAGE, "/+api")]
    for thread in threads:
        thread.start()
    try:
        until(lambda: sent[0] > 20, "no requests succeed")
        yield failures
        before = sent[0]
        until(lambda: sent[0] > before + 50, "no requests succeed after the renewal")
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_pip_installs(ca: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "--no-cache-dir"]
    options = ["--cert", ca, "--index-url", f"https://{address()}/root/pypi/+simple/", "--dest", str(tmp_path), "alpha"]
    environ = client_environment()
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}-1.0-py3-none-any.whl" for name in ("alpha", "beta")
    ]


def test_uv_installs(ca: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--no-config", "--no-cache", "alpha"]
    options = ["--target", str(tmp_path), "--default-index", f"https://{address()}/root/pypi/+simple/"]
    environ = client_environment()
    environ["SSL_CERT_FILE"] = ca
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "beta.py").exists()


def test_curl_uses_http_2(ca: str) -> None:
    for version in ("1.2", "1.3"):
        options = ("--tls-max", version, "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}")
        assert curl(ca, PAGE, *options) == "2 200"


def test_the_api_has_urls_of_the_clients_address(ca: str) -> None:
    for path in ("/+api", "/root/pypi/+api"):
        result = json.loads(curl(ca, path, "--header", "Accept: application/json"))["result"]
        assert result["login"] == "https://mirror.test/+login"
        assert set(re.findall(r"\w+://[^/]+/", json.dumps(result))) == {"https://mirror.test/"}
    result = json.loads(over_http("/+api"))["result"]
    assert result["login"] == "http://127.0.0.1:3141/+login"


@pytest.mark.parametrize("accept", [JSON, "text/html"])
def test_cached_pages_do_not_depend_on_the_scheme(ca: str, accept: str) -> None:
    over_tls = curl(ca, PAGE, "--header", f"Accept: {accept}", "--header", "X-Outside-URL: https://evil.example")
    assert over_tls == over_http(PAGE, Accept=accept)
    assert "alpha-1.0" in over_tls
    assert "://" not in over_tls


def test_redirects_are_relative(ca: str) -> None:
    answer = curl(ca, PAGE.rstrip("/"), "--include")
    assert re.findall(r"(?im)^location: (.*?)\r?$", answer) == [PAGE]


def test_http_is_available_on_loopback_only() -> None:
    assert not mirror.is_serving(PAGE)
    assert "alpha-1.0" in over_http(PAGE)


def test_only_the_mirror_can_read_the_key() -> None:
    listed = on_host(f"stat --format '%a %u:%g %F %n' {STORED} {STORED}/*").splitlines()
    assert listed == [f"700 53141:53141 directory {STORED}", f"400 53141:53141 regular file {STORED}/server.pem"]
    assert mirror.run("cat /run/mirror-tls/server.pem").count("PRIVATE KEY") == 2
    assert_no_key(
        on_host("docker inspect devpi; docker logs devpi 2>&1; cat /etc/devpi-mirror.sh /etc/devpi-mirror.env")
    )


def test_a_second_run_changes_nothing() -> None:
    assert succeed("devpi.mirror.site", "--diff", "-vvv").changed == []


@pytest.mark.usefixtures("source")
def test_an_invalid_pair_is_refused(ca: str) -> None:
    served, state = serial(), container_state()
    stored = on_host(f"sha256sum {STORED}/*")
    cases = {
        f"openssl genrsa -out {SOURCE}/key.pem 2048 2>/dev/null": "the key does not belong to the certificate",
        f"openssl rsa -aes256 -passout pass:x -in {SOURCE}-saved/key.pem -out {SOURCE}/key.pem 2>/dev/null": "unencrypted",
        f"echo nothing >{SOURCE}/fullchain.pem": "not a PEM certificate",
        "issue-certificate 0; sleep 1": "it has expired on",
        f"rm {SOURCE}/key.pem": "they can't be read",
    }
    for command, reason in cases.items():
        on_host(f"rm -rf {SOURCE} && cp -a {SOURCE}-saved {SOURCE} && {command}")
        output = on_host(f"{APPLY} 2>&1 && exit 1 || true")
        assert reason in output, output
        assert "previous certificate" in output
        if not command.startswith("rm "):
            assert_no_key(output)
    on_host(
        f"rm -rf {SOURCE} && cp -a {SOURCE}-saved {SOURCE} && openssl genrsa -out {SOURCE}/key.pem 2048 2>/dev/null"
    )
    configuration = on_host("sha256sum /etc/devpi-mirror.*")
    for options in (["--check"], []):
        # Another change must not wait for the next restart.
        outcome = run_play("devpi.mirror.site", "--diff", "-vvv", *options, variables={"devpi_server_memory": "650m"})
        assert outcome.status != 0
        text = " ".join(outcome.output.split())
        assert "the key does not belong to the certificate" in text
        assert "Set devpi_server_tls_certificate" in text
        assert_no_key(outcome.output)
        assert outcome.changed == []
    assert on_host("sha256sum /etc/devpi-mirror.*") == configuration
    assert (serial(), container_state(), on_host(f"sha256sum {STORED}/*")) == (served, state, stored)
    assert ask(ca, PAGE)[0] == 200


def test_a_renewed_certificate_interrupts_no_request(ca: str) -> None:
    state = container_state()
    page = json.loads(ask(ca, LARGE, Accept=JSON)[1])
    (file,) = page["files"]
    path = file["url"].removeprefix("../../../..")
    # A download that begins before the renewal and ends after it.
    connection = connect(ca)
    connection.request("GET", path)
    response = connection.getresponse()
    received = len(response.read(100_000))
    with continuous_requests(ca) as failures:
        for _number in range(3):
            before = serial()
            on_host("issue-certificate 90")
            assert on_host(APPLY) == "changed\n"
            until(lambda before=before: serial() != before, "the renewed certificate is not served")  # type: ignore[misc]
            assert on_host(APPLY) == "unchanged\n"
    assert failures == []
    assert received + len(response.read()) == file["size"]
    connection.close()
    assert container_state() == state
    assert on_host(f"ls {STORED}") == "server.pem\n"


def test_an_interrupted_renewal_is_completed() -> None:
    # As if the script had been killed after it had stored the certificate.
    before = serial()
    on_host("issue-certificate 90")
    on_host(
        f"cd {STORED} && ln server.pem previous.pem && rm server.pem &&"
        f" {{ cat {SOURCE}/fullchain.pem; echo; cat {SOURCE}/key.pem; }} >server.pem &&"
        " chown 53141:53141 server.pem && chmod 400 server.pem"
    )
    assert serial() == before
    assert on_host(APPLY) == "changed\n"
    until(lambda: serial() != before, "the renewed certificate is not served")
    assert on_host(f"ls {STORED}") == "server.pem\n"


def test_the_play_applies_a_renewed_certificate(ca: str) -> None:
    state, before = container_state(), serial()
    task = "Check the certificate, and serve it if it has changed"
    on_host("issue-certificate 90")
    checked = succeed("devpi.mirror.site", "--check", "--diff", "-vvv")
    assert [name for name in checked.changed if task not in name] == []
    assert len(checked.changed) == 1
    assert serial() == before
    outcome = succeed("devpi.mirror.site", "--diff", "-vvv")
    assert [name for name in outcome.changed if task not in name] == []
    assert len(outcome.changed) == 1
    until(lambda: serial() != before, "the renewed certificate is not served")
    assert container_state() == state
    assert "https://mirror.test/root/pypi/+simple/" in outcome.output
    for output in (checked.output, outcome.output):
        assert_no_key(output)
    assert ask(ca, PAGE)[0] == 200
    assert mirror.state()["problems"] == []
