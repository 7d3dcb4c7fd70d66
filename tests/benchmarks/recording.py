"""Record real pages and files, as an upstream that can be replayed without a line.

The folder holds ``simple/NAME/page.json`` and ``page.html``, each also compressed, the list of all projects as
``simple/page.*``, ``files/`` with the files that the set needs and their core metadata, ``wheelhouse/`` with the files alone,
and ``constraints.txt``, which pins them. Core metadata (PEP 658) is taken out of the wheels and told in the pages as PyPI has
it, since caches that may stand between here and there leave it out.
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
from urllib.request import Request, urlopen

SET = ("requests", "flask", "django", "numpy", "pandas", "boto3", "black", "pytest", "pydantic")
JSON = "application/vnd.pypi.simple.v1+json"
PIP_DEFAULT = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"


def default_index(python: Path) -> str:
    """Return the index that pip asks by default, with a slash at its end."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"].rstrip("/") + "/"
    done = subprocess.run([python, "-c", PIP_DEFAULT], check=True, capture_output=True, text=True)
    return done.stdout.strip() + "/"


def fetch(url: str, accept: str = "*/*", part: str = "") -> bytes:
    """Return what is at a URL, or the ``part`` of it, as in the header Range."""
    headers = {"Accept": accept, "User-Agent": "devpi.mirror", **({"Range": part} if part else {})}
    with urlopen(Request(url, headers=headers), timeout=120) as response:
        content: bytes = response.read()
    return content


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_page(folder: Path, form: str, content: bytes) -> None:
    """Write a page, plain and compressed."""
    write(folder / f"page.{form}", content)
    write(folder / f"page.{form}.gz", gzip.compress(content, 6))


def here(url: str, page: str) -> str:
    """Return where a file of an upstream is in the recording, as an absolute path."""
    return "/files" + urlsplit(urljoin(page, url)).path


def record_project(name: str, index: str, folder: Path) -> None:
    """Record both forms of a project's page."""
    page = f"{index}{name}/"
    content = json.loads(fetch(page, JSON))
    for file in content["files"]:
        file["url"] = here(file["url"], page)
        metadata = folder / (file["url"].lstrip("/") + ".metadata")
        if metadata.exists():
            file["core-metadata"] = {"sha256": hashlib.sha256(metadata.read_bytes()).hexdigest()}
    write_page(folder / "simple" / name, "json", json.dumps(content, separators=(",", ":")).encode())

    def moved(found: re.Match[bytes]) -> bytes:
        return b'href="' + here(found[1].decode(), page).encode() + found[2]

    html = re.sub(rb'href="([^"#]+)((?:#[^"]*)?")', moved, fetch(page, "text/html"))
    write_page(folder / "simple" / name, "html", html)


def metadata_in(wheel: bytes) -> bytes | None:
    """Return the core metadata in a wheel or in the end of one, or None if it can't be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return archive.read(name)
    except (zipfile.BadZipFile, StopIteration, ValueError, OSError):
        return None


def record_file(file: dict[str, Any], folder: Path) -> None:
    """Record a wheel of pip's report, and its core metadata."""
    url = file["download_info"]["url"]
    target = folder / here(url, url).lstrip("/")
    wheel = fetch(url)
    metadata = metadata_in(wheel)
    if metadata is None:
        raise ValueError(f"{url} has no metadata")
    write(target, wheel)
    write(target.with_name(target.name + ".metadata"), metadata)


def record(folder: Path, python: Path) -> None:
    """Record what pip needs for the set now, unless a recording is there. It appears whole."""
    if folder.exists():
        return
    growing = folder.with_name(folder.name + ".new")
    shutil.rmtree(growing, ignore_errors=True)
    index = default_index(python)
    # What this machine's pip is configured for is not what others would measure.
    env = dict(os.environ, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=index)
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--report", "-", *SET], env=env, check=True, capture_output=True, text=True)
    files = json.loads(done.stdout)["install"]
    names = {re.sub(r"[-_.]+", "-", file["metadata"]["name"]).lower() for file in files} | {"six"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: record_file(file, growing), files))
        list(pool.map(lambda name: record_project(name, index, growing), sorted(names)))
    links = fetch(index, "text/html")
    projects = [{"name": name.decode()} for name in re.findall(rb">([^<]+)</a>", links)]
    write_page(growing / "simple", "html", links)
    write_page(growing / "simple", "json", json.dumps({"meta": {"api-version": "1.1"}, "projects": projects}).encode())
    pins = sorted(f"{file['metadata']['name']}=={file['metadata']['version']}\n" for file in files)
    write(growing / "constraints.txt", "".join(pins).encode())
    wheels = growing / "wheelhouse"
    wheels.mkdir()
    for wheel in (growing / "files").rglob("*.whl"):
        (wheels / wheel.name).hardlink_to(wheel)
    growing.rename(folder)
