# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests the image's proxies.py sends through a proxy, and how it reports a proxy that can't be used."""

from __future__ import annotations

import base64
import select
import socket
import ssl
from contextlib import contextmanager

import httpx
import pytest
import trustme
from devpi_mirror import compat, proxies, upstream
from devpi_mirror.upstream import Upstream, UpstreamError
from devpi_servers import page, request
from fake_upstream import serving

HOST = "upstream.example"
HTTP_URL, HTTPS_URL = f"http://{HOST}/simple/", f"https://{HOST}/simple/"
NAMES = [name for scheme in ("http", "https", "all", "no") for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())]
NAMES += ["DEVPI_MIRROR_NO_PROXY"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """The environment without proxies."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(upstream, "PAUSE", 0)


@pytest.fixture
def client():
    """Return a function that opens an upstream with the present environment, which is closed at the end."""
    opened = []

    def connect(url=HTTP_URL):
        opened.append(Upstream(url))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


@pytest.fixture
def direct():
    with serving(lambda handler: handler.send(200, b"direct")) as server:
        yield server


@pytest.fixture
def proxy():
    """A proxy that responds to requests itself, and rejects tunnels."""

    def answer(handler):
        handler.send(*((403,) if handler.command == "CONNECT" else (200, b"proxied")))

    with serving(answer) as server:
        yield server


@contextmanager
def tunneling(port):
    """Run a proxy whose tunnels all end at a port of this host."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        with socket.create_connection(("127.0.0.1", port)) as remote:
            others = {handler.connection: remote, remote: handler.connection}
            while True:
                for source in select.select(list(others), [], [])[0]:
                    data = source.recv(65_536)
                    if not data:
                        return
                    others[source].sendall(data)

    with serving(answer) as server:
        yield server


@pytest.fixture
def secure(monkeypatch, tmp_path):
    """An upstream with TLS for HOST, whose authority is in the host's bundle."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    with serving(lambda handler: handler.send(200, b"secure")) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server


def address(server):
    return f"127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("entry", "exempt", "others"),
    [
        (
            "corp.example",
            ["http://corp.example", "https://pypi.corp.example:8443", "http://PyPI.Corp.Example."],
            ["http://notcorp.example", "http://corp.example.org", "http://example"],
        ),
        ("CORP.example.", ["http://corp.example", "http://pypi.corp.example"], ["http://example"]),
        (".corp", ["http://pypi.corp", "http://a.pypi.corp"], ["http://notcorp", "http://corp.example"]),
        ("*.corp", ["http://pypi.corp", "http://a.pypi.corp"], ["http://notcorp", "http://corp.example"]),
        ("localhost", ["http://localhost:3141"], ["http://127.0.0.1"]),
        ("my_host", ["http://my_host"], ["http://host"]),
        ("corp:8080", ["http://corp:8080", "https://a.corp:8080"], ["http://corp", "https://corp:80"]),
        ("corp:443", ["https://corp"], ["http://corp", "https://corp:8443"]),
        ("bücher.example", ["http://bücher.example", "http://xn--bcher-kva.example"], ["http://bucher.example"]),
        ("xn--bcher-kva.example", ["http://bücher.example"], ["http://bucher.example"]),
        ("10.0.0.1", ["http://10.0.0.1", "http://10.0.0.1.:81"], ["http://10.0.0.10", "http://110.0.0.1"]),
        ("10.0.0.1:81", ["http://10.0.0.1:81"], ["http://10.0.0.1"]),
        ("0.0.1", [], ["http://10.0.0.1"]),
        ("10.0.0.0/8", ["http://10.1.2.3:81"], ["http://11.0.0.1", "http://[::ffff]", "http://10.corp"]),
        ("172.16.5.4/12", ["http://172.31.0.1"], ["http://172.32.0.1"]),
        ("0.0.0.0/0", ["http://8.8.8.8"], ["http://[::1]", "http://dns.google"]),
        ("::1", ["http://[::1]", "http://[0:0:0:0:0:0:0:1]:81"], ["http://[::2]", "http://127.0.0.1"]),
        ("[::1]", ["http://[::1]", "http://[::1]:81"], ["http://[::2]"]),
        ("[::1]:81", ["http://[::1]:81"], ["http://[::1]"]),
        ("::1/128", ["http://[::1]"], ["http://[::2]"]),
        ("fd00::/8", ["http://[fd12::1]", "http://[FD12::1]"], ["http://[fe80::1]", "http://fd00"]),
        ("fe80::/10", ["http://[fe80::1]"], ["http://[fd00::1]"]),
    ],
)
def test_an_entry_of_no_proxy_exempts_hosts(entry, exempt, others):
    exemptions = [proxies.exemption(entry)]
    assert [url for url in exempt + others if proxies.is_exempt(httpx.URL(url), exemptions)] == exempt


@pytest.mark.parametrize(
    "entry",
    [
        *(
            "",
            ".",
            "*.",
            "10.0.0.0/99",
            "fd00::/999",
            "corp/8",
            "300.1.1.1",
            "[::1",
            "::1]",
            "[:::]",
            "[corp]",
            "[]",
            "1:2:3",
        ),
        *(
            "http://corp",
            "a@corp",
            "corp:",
            "corp:x",
            "corp:123456",
            "*corp",
            "a.*.corp",
            "a b",
            "\u00ad",
            "#",
            "%zz\x00",
        ),
    ],
)
def test_an_invalid_entry_of_no_proxy_is_ignored(entry):
    assert proxies.exemption(entry) is None


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("", False),
        ("fd00::/8,10.0.0.0/8", False),
        ("fd00::/8,127.0.0.0/8", True),
        ("[::1], fe80::/10 ::1/128\t127.0.0.1", True),
        ("nonsense//,,*", True),
        (",nonsense//,", False),
    ],
)
def test_exempt_hosts_are_requested_directly(client, monkeypatch, direct, proxy, no_proxy, is_direct):
    monkeypatch.setenv("HTTP_PROXY", f"http://{address(proxy)}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert client(direct.url).get(direct.url) == (b"direct" if is_direct else b"proxied")
    assert (direct.paths(), proxy.paths()) == ((["/simple/"], []) if is_direct else ([], [direct.url]))


@pytest.mark.parametrize(
    ("variables", "is_proxied"),
    [
        ({"http_proxy": "http://{}"}, True),
        ({"http_proxy": "http://{}/"}, True),
        ({"HTTP_PROXY": "{}"}, True),
        ({"all_proxy": "{}"}, True),
        ({"http_proxy": "{}", "ALL_PROXY": "http://127.0.0.1:9"}, True),
        ({"http_proxy": "{}", "HTTP_PROXY": "http://127.0.0.1:9"}, True),
        ({"https_proxy": "{}"}, False),
        ({"http_proxy": "", "HTTP_PROXY": "{}"}, False),
    ],
)
def test_the_proxy_is_that_of_the_scheme(client, monkeypatch, direct, proxy, variables, is_proxied):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(address(proxy)))
    assert client(direct.url).get(direct.url) == (b"proxied" if is_proxied else b"direct")


def test_a_redirect_to_an_exempt_host_is_requested_directly(client, monkeypatch, direct):
    with serving(lambda handler: handler.send(302, Location=direct.url)) as redirecting:
        monkeypatch.setenv("http_proxy", address(redirecting))
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        assert client().get(HTTP_URL) == b"direct"


def test_tls_uses_a_tunnel_that_is_reused(client, monkeypatch, secure):
    with tunneling(secure.server_port) as proxy:
        monkeypatch.setenv("https_proxy", f"bob:s3cr%25t@{address(proxy)}")
        own = client(HTTPS_URL)
        assert [own.get(HTTPS_URL) for _request in range(5)] == [b"secure"] * 5
        ((method, target, headers),) = proxy.requests
    assert (method, target) == ("CONNECT", f"{HOST}:443")
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"bob:s3cr%t").decode()
    assert len(secure.connections) == 1
    assert all("Proxy-Authorization" not in headers for _method, _path, headers in secure.requests)


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.0/8"])
def test_connections_are_reused(client, monkeypatch, direct, proxy, no_proxy):
    monkeypatch.setenv("http_proxy", address(proxy))
    monkeypatch.setenv("no_proxy", no_proxy)
    own = client(direct.url)
    for _request in range(5):
        own.get(direct.url)
    assert len((direct if no_proxy else proxy).connections) == 1


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.0/8"])
def test_connections_are_limited(client, monkeypatch, no_proxy):
    monkeypatch.setattr(upstream.config, "CONNECTIONS", 1)
    with serving(lambda handler: handler.send(200, b"x" * 10_000_000)) as server:
        monkeypatch.setenv("http_proxy", address(server))
        monkeypatch.setenv("no_proxy", no_proxy)
        own = client(server.url)
        with own.stream(server.url):
            own.client.timeout = httpx.Timeout(0.01)
            with pytest.raises(UpstreamError, match="all connections to the upstream"):
                own.get(server.url)


@pytest.mark.parametrize("password", ["s3cret", "s3@cret"])
def test_credentials_are_sent_to_the_proxy(client, monkeypatch, proxy, password):
    monkeypatch.setenv("http_proxy", f"http://bob:{password}@{address(proxy)}")
    assert client().get(HTTP_URL) == b"proxied"
    expected = "Basic " + base64.b64encode(f"bob:{password}".encode()).decode()
    assert proxy.requests[0][2]["Proxy-Authorization"] == expected


@pytest.mark.parametrize("url", [HTTP_URL, HTTPS_URL])
def test_the_errors_of_a_proxy_have_no_credentials(client, monkeypatch, url):
    with serving(lambda handler: handler.send(407, b"no")) as refusing, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for proxy in (address(refusing), f"127.0.0.1:{closed.getsockname()[1]}"):
            for name in ("http_proxy", "https_proxy"):
                monkeypatch.setenv(name, f"http://bob:s3cret@{proxy}")
            with pytest.raises(UpstreamError) as caught:
                client(url).get(url)
            assert caught.value.status == 503
            assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "socks5://bob:s3cret@127.0.0.1:1080",
        "socks5h://127.0.0.1:1080",
        "ftp://127.0.0.1",
        "http://bob:s3cret@127.0.0.1:x",
        "http://bob:s3cret@127.0.0.1:3128:",
        "http://bob:s3cret@",
        "http://[bob:s3cret",
        "http://bob:s3cret@[::1",
        "http://300.1.1.1:3128",
        "bob:s3cret/",
        "://",
    ],
)
def test_an_invalid_proxy_fails_only_requests_that_need_it(client, monkeypatch, direct, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    own = client(HTTPS_URL)
    with pytest.raises(UpstreamError, match="https_proxy is not the URL of an HTTP proxy, as in http://") as caught:
        own.get(HTTPS_URL)
    assert caught.value.status == 503
    assert "s3cret" not in str(caught.value)
    assert own.get(direct.url) == b"direct"
    monkeypatch.setenv("NO_PROXY", HOST)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [])
    with pytest.raises(UpstreamError) as caught:
        client(HTTPS_URL).get(HTTPS_URL)
    assert "https_proxy" not in str(caught.value)


@pytest.fixture(scope="module", name="upstream")
def exempt_upstream(index):
    """An upstream that is reached without the proxies, which can't be used."""
    with serving(index) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        patch.setenv("HTTPS_PROXY", "http://bob:s3cret@127.0.0.1:9")
        patch.setenv("DEVPI_MIRROR_NO_PROXY", "fd00::/8,[::1],127.0.0.0/8")
        yield server


def test_devpi_serves_pages_with_these_settings(mirror, private):
    assert page(mirror, "alpha").status == 200
    assert request(f"{private}own/").status == 200


def test_a_page_that_needs_an_unavailable_proxy_is_an_error(mirror):
    values = {"type": compat.config.MIRROR_TYPES[compat.MAJOR >= 7], "mirror_url": HTTPS_URL}
    created = request(f"{mirror.url}/root/secure", "PUT", compat.renamed(values), X_Devpi_Auth=mirror.auth)
    assert created.status == 200, created.body
    response = request(f"{mirror.url}/root/secure/+simple/alpha/")
    assert (response.status, response.headers["Retry-After"]) == (503, "10")
    assert b"the upstream can't be reached" in response.body
    assert b"s3cret" not in response.body + mirror.log.read_bytes()
