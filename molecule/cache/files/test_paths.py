# SPDX-License-Identifier: GPL-3.0-or-later
"""No request path puts one package's response into the cache of another, or a private response into a public one."""

from __future__ import annotations

import io
import itertools
import json
import re
import socket
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from harness import JSON, MIRROR_PORT, PUBLIC, UPSTREAM_PORT, Mirror, address, send

mirror = Mirror()

FILE_PREFIXES = ("/root/pypi/+f/", "/root/pypi/-f/", "/root/pypi/%2bf/", "/alice/private/+f/")
PAGE_PREFIXES = ("/root/pypi/+simple/", "/alice/private/+simple/")
# Texts that a server could interpret as the end of a path or of a name.
ENDS = ("#", "%23", "%2523", "?", "%3f", "%253F", ";", "%3b", "%00", "%0a", "%20", "")
SEPARATORS = ("/", "%2f", "\\", "%5C", "%252f")
PARENTS = ("..", "%2e%2e", "%252e%252e")


class Package(NamedTuple):
    """A project of the upstream with one wheel."""

    name: str
    filename: str
    sha256: str
    content: bytes

    @property
    def path(self) -> str:
        """The path of its file below ``+f/``."""
        return f"{self.sha256[:3]}/{self.sha256[3:16]}/{self.filename}"

    @property
    def metadata(self) -> bytes:
        with zipfile.ZipFile(io.BytesIO(self.content)) as wheel:
            return wheel.read(f"{self.name}-1.0.dist-info/METADATA")


def package(name: str) -> Package:
    (file,) = json.loads(send(UPSTREAM_PORT, f"/simple/{name}/").body)["files"]
    return Package(name, file["filename"], file["hashes"]["sha256"], send(UPSTREAM_PORT, file["url"]).body)


def mixed_paths(start: str, end: str, target: str) -> Iterator[str]:
    """Yield paths that begin with a path and an end of it, and that lead to another path if they are normalized."""
    for separator, parent in itertools.product(SEPARATORS, PARENTS):
        up = [parent] * start.count("/")
        yield start + end + separator + separator.join([*up, *target.strip("/").split("/")])
        yield start + end + separator + separator.join([*up, *target.split("/")]).strip(separator) + "/"


def attacks(source: Package, target: Package, prefix: str, end: str) -> Iterator[str]:
    if prefix in PAGE_PREFIXES:
        yield from mixed_paths(f"{prefix}{source.name}/", end, f"{PUBLIC}{target.name}/")
        return
    for suffix in ("", ".metadata"):
        yield from mixed_paths(f"{prefix}{source.path}{suffix}", end, f"/root/pypi/+f/{target.path}{suffix}")


def send_raw(path: str) -> int:
    """Send a request whose path is not changed by any library, and return the status of the response."""
    with socket.create_connection((address(), MIRROR_PORT), timeout=60) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {JSON}\r\nConnection: close\r\n\r\n".encode()
        )
        with connection.makefile("rb") as stream:
            status = stream.readline()
            stream.read()
    found = re.match(rb"HTTP/1.1 (\d{3}) ", status)
    assert found, (path, status)
    return int(found[1])


def test_no_path_changes_the_responses_to_other_clients() -> None:
    mirror.create_user("alice").upload("new2000", "9.0")
    source = package("new1999")
    assert mirror.page(source.name).status == 200
    targets = {}
    paths: list[str] = []
    for number, (prefix, end) in enumerate(itertools.product((*FILE_PREFIXES, *PAGE_PREFIXES), ENDS)):
        target = package(f"new{2000 + number}")
        targets[target.name] = target
        paths += attacks(source, target, prefix, end)
    assert len(set(paths)) >= 1000
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send_raw, paths))

    for target in targets.values():
        for _attempt in ("cache miss", "cache hit"):
            assert {name: file["hashes"]["sha256"] for name, file in mirror.files(target.name).items()} == {
                target.filename: target.sha256
            }
            html = mirror.ask(f"{PUBLIC}{target.name}/", Accept="text/html").text
            assert re.findall(r'href="[^"]*/([^"/]+)#sha256=(\w+)"', html) == [(target.filename, target.sha256)]
            for folder in ("-f", "+f"):
                path = f"/root/pypi/{folder}/{target.path}"
                assert mirror.ask(path + ".metadata").body == target.metadata, path
                assert mirror.ask(path).body == target.content, path

    assert set(statuses) <= {200, 302, 400, 404}, sorted(set(statuses))
    assert statuses.count(400) > len(paths) / 2
