# SPDX-License-Identifier: GPL-3.0-or-later
"""Record real pages and files, as an upstream that can be replayed offline.

The folder has ``simple/NAME/page.json`` and ``page.html``, each also compressed, the list of all projects as
``simple/page.*``, ``files/`` with the files that the set needs and their core metadata, ``wheelhouse/`` with the files alone,
and ``constraints.txt``, which pins them. Core metadata (PEP 658) is read from the wheels and listed in the pages, as on PyPI,
because caches in between can omit it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, build_opener

SET = ("requests", "flask", "django", "numpy", "pandas", "boto3", "black", "pytest", "pydantic")
JSON = "application/vnd.pypi.simple.v1+json"
PIP_DEFAULT = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"


def default_index(python: Path) -> str:
    """Return the URL of pip's default index, with a trailing slash."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"].rstrip("/") + "/"
    done = subprocess.run([python, "-c", PIP_DEFAULT], check=True, capture_output=True, text=True)
    return done.stdout.strip() + "/"


def fetch(url: str, accept: str = "*/*", part: str = "") -> bytes:
    """Return the content of a URL, or the ``part`` of it, as in the header Range."""
    headers = {"Accept": accept, "User-Agent": "devpi.mirror", **({"Range": part} if part else {})}
    with build_opener().open(Request(url, headers=headers), timeout=120) as response:
        content: bytes = response.read()
    return content


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_page(folder: Path, form: str, content: bytes) -> None:
    """Write a page, plain and compressed."""
    write(folder / f"page.{form}", content)
    write(folder / f"page.{form}.gz", gzip.compress(content, 6))


def recorded_path(url: str, page: str) -> str:
    """Return the absolute path in the recording of a file of an upstream."""
    return "/files" + urlsplit(urljoin(page, url)).path


def record_project(name: str, index: str, folder: Path) -> None:
    """Record both forms of a project's page."""
    page = f"{index}{name}/"
    content = json.loads(fetch(page, JSON))
    for file in content["files"]:
        file["url"] = recorded_path(file["url"], page)
        metadata = folder / (file["url"].lstrip("/") + ".metadata")
        if metadata.exists():
            file["core-metadata"] = {"sha256": hashlib.sha256(metadata.read_bytes()).hexdigest()}
    write_page(folder / "simple" / name, "json", json.dumps(content, separators=(",", ":")).encode())

    def rewrite(found: re.Match[bytes]) -> bytes:
        return b'href="' + recorded_path(found[1].decode(), page).encode() + found[2]

    html = re.sub(rb'href="([^"#]+)((?:#[^"]*)?")', rewrite, fetch(page, "text/html"))
    write_page(folder / "simple" / name, "html", html)


def metadata_in(wheel: bytes) -> bytes | None:
    """Return the core metadata of a wheel or of its end, None if it can't be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return archive.read(name)
    except (zipfile.BadZipFile, StopIteration, ValueError, OSError):
        return None


def record_file(file: dict[str, Any], folder: Path) -> None:
    """Record a wheel in pip's report, and its core metadata."""
    url = file["download_info"]["url"]
    target = folder / recorded_path(url, url).lstrip("/")
    wheel = fetch(url)
    metadata = metadata_in(wheel)
    if metadata is None:
        raise ValueError(f"{url} has no metadata")
    write(target, wheel)
    write(target.with_name(target.name + ".metadata"), metadata)


def record(folder: Path, python: Path) -> None:
    """Record the files that pip installs for the set, unless a recording exists. A recording is always complete."""
    if folder.exists():
        return
    incomplete = folder.with_name(folder.name + ".new")
    shutil.rmtree(incomplete, ignore_errors=True)
    index = default_index(python)
    # The results must not depend on the configuration of this machine's pip.
    env = dict(os.environ, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=index)
    options = ["--quiet", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
    command: list[str | Path] = [python, "-m", "pip", "install", *options]
    done = subprocess.run([*command, "--report", "-", *SET], env=env, check=True, capture_output=True, text=True)
    files = json.loads(done.stdout)["install"]
    names = {re.sub(r"[-_.]+", "-", file["metadata"]["name"]).lower() for file in files} | {"six"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: record_file(file, incomplete), files))
        list(pool.map(lambda name: record_project(name, index, incomplete), sorted(names)))
    links = fetch(index, "text/html")
    projects = [{"name": name.decode()} for name in re.findall(rb">([^<]+)</a>", links)]
    write_page(incomplete / "simple", "html", links)
    write_page(
        incomplete / "simple", "json", json.dumps({"meta": {"api-version": "1.1"}, "projects": projects}).encode()
    )
    pins = sorted(f"{file['metadata']['name']}=={file['metadata']['version']}\n" for file in files)
    write(incomplete / "constraints.txt", "".join(pins).encode())
    wheels = incomplete / "wheelhouse"
    wheels.mkdir()
    for wheel in (incomplete / "files").rglob("*.whl"):
        (wheels / wheel.name).hardlink_to(wheel)
    incomplete.rename(folder)
