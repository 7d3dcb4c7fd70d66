# SPDX-License-Identifier: GPL-3.0-or-later
"""Each client installs from the mirror, and does not write the mirror's URL into files that people share."""

from __future__ import annotations

import shlex
from typing import NamedTuple

import pytest
from harness import on_host, until
from user_commands import BIN, INDEX, run_as

# Commands that need the network are attempted this often.
ATTEMPTS = 3
PROJECTS = "/home/dev/.local/projects"
ENVIRONMENT = f"export PATH={BIN}:$PATH SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt LANG=C.UTF-8"
DOWNLOADS = "docker logs devpi 2>&1 | grep -o 'GET /root/pypi/-f/.*' || true"
# Limits of the age of releases, which exclude the newest release of the package.
POETRY_AGE = "POETRY_SOLVER_MIN_RELEASE_AGE=$(( ($(date +%s) - $(date -d 2022-01-01 +%s)) / 86400 ))"
PDM_AGE = "--exclude-newer 2024-01-01"
# Builds an image that installs a package, and prints its packages and its environment.
BUILD_IMAGE = rf"""
set -eo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
{BIN}/pip --disable-pip-version-check download --quiet --no-deps --index-url {INDEX} pip
mv pip-*.whl pip.whl
bridge=$(ip -4 -brief address show docker0 | sed 's|.* \(.*\)/.*|\1|')
image=$(docker inspect --format '{{{{.Config.Image}}}}' devpi)
cat >Dockerfile <<END
FROM $image
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY pip.whl /tmp/
RUN python3 -m zipfile -e /tmp/pip.whl /tmp/pip && PYTHONPATH=/tmp/pip python3 -m pip download \
    --no-cache-dir --dest /tmp/packages --no-deps zipp
END
docker build --tag built --build-arg PIP_TRUSTED_HOST=$bridge \
    --build-arg PIP_INDEX_URL=http://$bridge:3141/root/pypi/+simple/ . >&2
docker run --rm --entrypoint sh built -c 'ls /tmp/packages; env'
docker rmi built >&2
"""


def pyproject(package: str, *lines: str) -> str:
    """Return a shell command that creates a project that depends on a package."""
    text = ["[project]", 'name = "x"', 'version = "0"', 'requires-python = ">=3.8"', f'dependencies = ["{package}"]']
    return f"printf '%s\\n' {shlex.join([*text, *lines])} >pyproject.toml"


class Client(NamedTuple):
    """A client.

    ``command`` installs in an empty folder. No other client requests ``package``. People share the ``files`` of the project.
    """

    command: str
    package: str
    files: tuple[str, ...] = ()


NO_PACKAGE = ("[tool.poetry]", "package-mode = false")
CLIENTS = {
    "uv-pip": Client("uv venv .venv && uv pip install iniconfig", "iniconfig"),
    "poetry": Client(
        f"{pyproject('six', *NO_PACKAGE)} && poetry lock && poetry install", "six", ("poetry.lock", "pyproject.toml")
    ),
    "poetry-with-age-limit": Client(
        f"{pyproject('six', *NO_PACKAGE)} && export {POETRY_AGE} && poetry lock && poetry install",
        "six-1.16.0",
        ("poetry.lock", "pyproject.toml"),
    ),
    "pdm": Client(f"{pyproject('toml')} && pdm install", "toml", ("pdm.lock", "pyproject.toml")),
    "pdm-with-age-limit": Client(
        f"{pyproject('iniconfig')} && pdm lock {PDM_AGE} && pdm sync", "iniconfig-2.0.0", ("pdm.lock", "pyproject.toml")
    ),
    "pip-tools": Client(
        "echo mccabe >requirements.in && pip-compile --quiet --no-emit-index-url requirements.in && "
        "python3 -m venv .venv && pip-sync --quiet --python-executable .venv/bin/python",
        "mccabe",
    ),
    # It requests the page of a name that is not normalized.
    "zc.buildout": Client(
        f"printf '%s\\n' '[buildout]' 'parts = x' 'index = {INDEX}' '[x]' 'recipe = zc.recipe.egg' 'eggs = toml' "
        ">buildout.cfg && buildout",
        "zc_recipe_egg",
    ),
    # It writes a configured mirror into a Pipfile that it creates, and leaves an existing one unchanged.
    "pipenv": Client(
        "export PIPENV_VENV_IN_PROJECT=1 && env -u PIPENV_PYPI_MIRROR PIP_CONFIG_FILE=/dev/null pipenv install && "
        "pipenv install pluggy",
        "pluggy",
        ("Pipfile", "Pipfile.lock"),
    ),
    "pipx-with-pip": Client("pipx install --backend pip pycowsay", "pycowsay"),
    "pipx-with-uv": Client("pipx install --backend uv cowsay", "cowsay"),
}


class Locked(NamedTuple):
    """A command that installs a release from a lock file, which the mirror hides, and what it prints."""

    command: str
    message: str


SIX_HASH = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"
SIX = f"{INDEX.replace('+simple/', '-f/')}{SIX_HASH[:3]}/{SIX_HASH[3:16]}/six-1.17.0-py2.py3-none-any.whl"
LOCK_OF_UV = f"""
version = 1
revision = 3
requires-python = ">=3.8"
[[package]]
name = "six"
version = "1.17.0"
source = {{ registry = "{INDEX}" }}
wheels = [{{ url = "{SIX}", hash = "sha256:{SIX_HASH}", size = 11050 }}]
[[package]]
name = "x"
version = "0"
source = {{ virtual = "." }}
dependencies = [{{ name = "six" }}]
[package.metadata]
requires-dist = [{{ name = "six" }}]
"""
LOCKED = {
    "pip": Locked(f"python3 -m venv .venv && .venv/bin/pip install {SIX}", "Hidden by block: six>=1.17"),
    "pip-with-hashes": Locked(
        f"echo six==1.17.0 --hash=sha256:{SIX_HASH} >lock.txt && python3 -m venv .venv && .venv/bin/pip install -r lock.txt",
        "No matching distribution found for six==1.17.0",
    ),
    "uv": Locked(f"{pyproject('six')} && printf %s {shlex.quote(LOCK_OF_UV)} >uv.lock && uv sync --frozen", "403"),
    "poetry": Locked(
        f"{pyproject('six', *NO_PACKAGE)} && poetry lock && sed -i 's/1\\.16\\.0/1.17.0/' poetry.lock && poetry install",
        "Unable to find installation candidates for six (1.17.0)",
    ),
}


def run_in_project(name: str, command: str) -> None:
    """Run a command in a new folder."""
    folder = f"{PROJECTS}/{name}"
    run_as("dev", f"{ENVIRONMENT}; rm -rf {folder}; mkdir -p {folder}; cd {folder} && {command}", ATTEMPTS)


def await_download(package: str) -> None:
    # nginx writes its log once a second.
    until(lambda: package in on_host(DOWNLOADS), f"{package} was not downloaded from the mirror")


def check_shared_files(name: str, files: tuple[str, ...]) -> None:
    """Check that files of a project exist and do not name the mirror."""
    for file in files:
        text = on_host(f"cat {PROJECTS}/{name}/{file}")
        assert "127.0.0.1" not in text, file
        assert "3141" not in text, file


@pytest.mark.parametrize("name", CLIENTS)
def test_client_installs_from_the_mirror_and_does_not_name_it(name: str) -> None:
    client = CLIENTS[name]
    run_in_project(name, client.command)
    await_download(client.package)
    check_shared_files(name, client.files)


def test_uv_locks_a_project_from_its_own_default_index() -> None:
    run_in_project("uv", f"{pyproject('colorama')} && uv lock")
    check_shared_files("uv", ("pyproject.toml", "uv.lock"))
    # When the log has a later download, it has all earlier ones.
    run_in_project("later", "uv venv .venv && uv pip install --no-cache tomlkit==0.12.5")
    await_download("tomlkit-0.12.5")
    assert "colorama" not in on_host(DOWNLOADS)


@pytest.mark.parametrize("name", LOCKED)
def test_a_lock_file_with_a_hidden_release_fails_with_the_rule(name: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run_as("dev", f"{ENVIRONMENT}; cd $(mktemp -d) && {LOCKED[name].command}")
    assert LOCKED[name].message in " ".join(str(caught.value).split())


def test_the_oldest_and_the_newest_pip_of_each_python_download() -> None:
    print(
        run_as("dev", f"sh -e /var/tmp/pip_versions.sh {INDEX} /usr/bin/python3 /opt/pythons/*/bin/python3", ATTEMPTS)
    )


def test_containers_and_image_builds_download_through_the_bridge() -> None:
    lines = on_host(f"bash -c {shlex.quote(BUILD_IMAGE)}").split("\n")
    assert [line for line in lines if line.startswith("zipp-")]
    assert not [line for line in lines if "PIP_" in line], "the image contains settings of pip"


def test_the_mirror_listens_on_loopback_and_the_bridge_alone() -> None:
    bridge = on_host("ip -4 -brief address show docker0").split()[2].split("/")[0]
    sockets = on_host("ss --listening --numeric --tcp --no-header '( sport = :3141 )'").splitlines()
    addresses = {line.split()[3] for line in sockets} - {"[::1]:3141"}
    assert addresses == {"127.0.0.1:3141", f"{bridge}:3141"}
