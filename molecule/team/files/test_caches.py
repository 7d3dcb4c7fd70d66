# SPDX-License-Identifier: GPL-3.0-or-later
"""Two caches behind one name, a laptop whose mirror uses one of them, and a laptop without a mirror."""

from __future__ import annotations

import subprocess

import pytest
from hosts import FOLDER, PREFIX, Server, install, on, run_play

NAME = "mirror.test"
PAGE = "/root/pypi/+simple/{}/"


def address_of(name: str) -> str:
    """Return an expression for the address of a host, which addresses.yml reads."""
    return f"{{{{ hostvars['{PREFIX}{name}'].host_address }}}}"


GROUPS = {
    "devpi_caches": ["one", "two"],
    "devpi_laptops": {
        "ada": {"devpi_server_upstream_url": f"https://{address_of('one')}/root/pypi/+simple/"},
        "bob": {
            "pip_client_index_url": f"https://{address_of('two')}/root/pypi/+simple/",
            "pip_client_settings": {"global": {"cert": "/etc/ssl/team/bundle.pem"}},
            # The host's own bundle lacks the authority.
            "pip_client_wait": False,
        },
    },
}


@pytest.fixture(scope="module", autouse=True)
def _deployed() -> None:
    run_play("converge.yml", GROUPS)


def seen(name: str) -> str:
    """Return what was requested from the upstream on a host, as JSON."""
    script = "import urllib.request as r; print(r.urlopen('http://192.0.2.1:8099/+seen').read().decode())"
    return on(name, f'python3 -c "{script}"')


def status_by_name(project: str) -> str:
    """Request a page from the name of both caches, as a client does that tries one address after the other."""
    addresses = ",".join(Server(name).address for name in ("one", "two"))
    options = ["--cacert", str(FOLDER / "ca.pem"), "--resolve", f"{NAME}:443:{addresses}", "--output", "/dev/null"]
    command = ["curl", "--silent", "--show-error", "--write-out", "%{http_code}", *options]
    done = subprocess.run(
        [*command, f"https://{NAME}{PAGE.format(project)}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_mirror_of_a_laptop_uses_its_cache() -> None:
    install("ada", "new101")
    assert "/simple/new101/" in seen("one")
    assert "/simple/new101/" not in seen("ada")


def test_a_laptop_without_a_mirror_uses_its_cache() -> None:
    assert on("bob", "docker ps --all --quiet --filter name=devpi") == ""
    script = (
        "import configparser, ssl, urllib.request as r; c = configparser.ConfigParser();"
        " c.read('/home/ada/.config/pip/pip.conf'); pip = c['global'];"
        " context = ssl.create_default_context(cafile=pip['cert']);"
        " print(r.urlopen(pip['index-url'] + 'new102/', context=context).read().decode())"
    )
    assert "new102-1.0" in on("bob", f'python3 -c "{script}"')
    assert "/simple/new102/" in seen("two")


def test_one_cache_serves_while_the_other_is_rebuilt() -> None:
    assert status_by_name("new103") == "200"
    run_play("devpi.mirror.remove", {"devpi_caches": ["one"]}, "--limit", "devpi_caches", devpi_server_remove_data=True)
    assert status_by_name("new104") == "200"
    # Its cache is unavailable.
    install("ada", "new105")
    run_play("converge.yml", GROUPS)
    assert Server("one").ask(PAGE.format("new103")).status == 200
