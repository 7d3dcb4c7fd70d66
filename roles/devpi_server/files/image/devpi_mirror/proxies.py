# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies from the environment, and the hosts that are exempt from them.

httpx fails on ranges of IPv6 addresses in NO_PROXY and ignores ranges of IPv4 addresses. pip honors both.
"""

from __future__ import annotations

import os
import re
import ssl
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.request import getproxies_environment

import httpx

from .credentials import DEFAULT_PORTS, split_credentials

# A host and its port. A leading dot, or asterisk and dot, has no effect.
AUTHORITY = re.compile(r"(?:\*?\.)?(?P<host>\[[0-9A-Fa-f:.]+\]|(?!\.)[^\s/?#@:*\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


class Exemption(NamedTuple):
    """A host name with its subdomains, or a range of addresses, that is reached without a proxy, at one port or at all."""

    host: str | IPv4Network | IPv6Network
    port: int | None

    def covers(self, host: str | IPv4Address | IPv6Address, port: int | None) -> bool:
        if self.port not in (None, port):
            return False
        if isinstance(self.host, str):
            return isinstance(host, str) and f".{host}".endswith(f".{self.host}")
        return not isinstance(host, str) and host in self.host


def entries_of(no_proxy: str) -> list[str]:
    """Return the entries of a value of NO_PROXY."""
    return re.split(r"[\s,]+", no_proxy)


def exemption(entry: str) -> Exemption | None:
    """Return what an entry of NO_PROXY exempts, or None if it is neither a host nor a range of addresses."""
    with suppress(ValueError):
        return Exemption(ip_network(entry, strict=False), None)
    found = AUTHORITY.fullmatch(entry)
    if not found:
        return None
    port = int(found["port"]) if found["port"] else None
    with suppress(ValueError):
        return Exemption(ip_network(found["host"].strip("[]")), port)
    with suppress(httpx.InvalidURL):
        return Exemption(host_name(httpx.URL(f"//{found['host']}")), port)
    return None


def host_name(url: httpx.URL) -> str:
    """Return the host of a URL in lower case and encoded as for DNS."""
    return url.raw_host.decode("ascii").rstrip(".")


def is_exempt(url: httpx.URL, exemptions: list[Exemption]) -> bool:
    """Return whether the host of a URL is reached without a proxy."""
    host: str | IPv4Address | IPv6Address = host_name(url)
    with suppress(ValueError):
        host = ip_address(host)
    port = url.port or DEFAULT_PORTS.get(url.scheme)
    return any(entry.covers(host, port) for entry in exemptions)


def proxy_of(url: str) -> httpx.Proxy | None:
    """Return the proxy of a URL, or None if it is not the URL of an HTTP proxy."""
    try:
        # As for curl and pip, the scheme is optional.
        own = split_credentials(url if "://" in url else f"http://{url}")
        headers = {"Proxy-Authorization": own.authorization} if own.authorization else None
        proxy = httpx.Proxy(own.url, headers=headers)
    except (ValueError, httpx.InvalidURL):
        return None
    return proxy if proxy.url.scheme in DEFAULT_PORTS and proxy.url.host else None


class InvalidProxy(httpx.BaseTransport):
    """Replaces a proxy with an invalid URL. Only requests that need the proxy fail, and cached pages are served."""

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # Without the value of the setting, which can have credentials.
        raise httpx.ProxyError(
            f"the setting {self.setting} is not the URL of an HTTP proxy, as in http://proxy.example:3128",
            request=request,
        )


class ProxyTransport(httpx.BaseTransport):
    """Sends each request through the proxy for its scheme, or directly. ``limits`` apply to each proxy separately."""

    def __init__(self, context: ssl.SSLContext, limits: httpx.Limits) -> None:
        environment = getproxies_environment()
        # entrypoint.py removes entries from NO_PROXY.
        entries = entries_of(os.environ.get("DEVPI_MIRROR_NO_PROXY") or environment.get("no", ""))
        self.exemptions = [found for found in map(exemption, entries) if found]
        transport = partial(httpx.HTTPTransport, verify=context, trust_env=False, limits=limits)
        self.direct: httpx.BaseTransport = transport()
        self.proxied: dict[str, httpx.BaseTransport] = {}
        for scheme in () if "*" in entries else ("http", "https", "all"):
            if environment.get(scheme):
                proxy = proxy_of(environment[scheme])
                self.proxied[scheme] = transport(proxy=proxy) if proxy else InvalidProxy(f"{scheme}_proxy")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        transport = self.proxied.get(request.url.scheme) or self.proxied.get("all")
        if transport is None or is_exempt(request.url, self.exemptions):
            transport = self.direct
        return transport.handle_request(request)

    def close(self) -> None:
        for transport in (self.direct, *self.proxied.values()):
            transport.close()
