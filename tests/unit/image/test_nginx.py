# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's configuration for the mirror indexes of devpi."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

IMAGE = Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "image"
TEMPLATE = '"^/(@MIRRORS@)/" (@POLICIES@) { @IDS@ }'


@pytest.fixture
def nginx(load, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path))
    monkeypatch.setenv("DEVPI_MIRROR_RUN", str(tmp_path))
    monkeypatch.setenv("DEVPI_MIRROR_ETC", str(IMAGE))
    (tmp_path / "nginx").mkdir()
    return load("nginx")


def test_the_patterns_match_the_names_of_the_indexes_alone(nginx):
    routes = {
        "root/pypi": nginx.Route("1", has_policy=False),
        "a.b/c-d": nginx.Route("2", has_policy=True),
        'a";b/c': nginx.Route("3", has_policy=True),
    }
    assert nginx.rendered(TEMPLATE, routes) == (
        '"^/(root/pypi|a\\.b/c\\-d)/" (a\\.b/c\\-d) { "root/pypi" 1;\n        "a.b/c-d" 2; }'
    )


def test_many_indexes_fit_into_the_configuration(nginx):
    names = [f"root/mirror-of-the-upstream-of-team-{number}" for number in range(1000)]
    routes = {name: nginx.Route("0123456789abcdef", has_policy=True) for name in [*names, "root/pypi"]}
    nginx.configure(routes)
    assert max(map(len, nginx.NGINX_CONF.read_text().splitlines())) < 4096
    assert "root/pypi" in nginx.served(routes)
    assert 50 < len(nginx.served(routes)) < 1000
    assert set(nginx.served({name: routes[name] for name in names[:50]})) == set(names[:50])


def test_without_indexes_the_patterns_match_nothing(nginx):
    (mirrors, policies) = re.findall(r"\((\(.*?\))\)", nginx.rendered(TEMPLATE, {}))
    assert not any(re.fullmatch(pattern, text) for pattern in (mirrors, policies) for text in ("", "root/pypi"))


def test_the_configuration_has_no_other_placeholders(nginx):
    nginx.configure(nginx.INITIAL)
    text = nginx.NGINX_CONF.read_text()
    assert not re.search("@[A-Z]+@", text)
    assert '"^/(?<mirror>root/pypi)/' in text


@pytest.mark.parametrize(("processors", "workers"), [(None, 2), (1, 2), (4, 4), (64, 8)])
def test_number_of_workers(nginx, monkeypatch, processors, workers):
    monkeypatch.setattr(nginx.os, "cpu_count", lambda: processors)
    assert nginx.rendered("@WORKERS@", {}) == str(workers)


def test_routes_are_stored(nginx):
    assert nginx.stored_routes() == nginx.INITIAL
    routes = {"root/pypi": nginx.Route("1", has_policy=False)}
    nginx.store_routes(routes)
    assert nginx.stored_routes() == routes


@pytest.mark.parametrize("content", ["", "[]", '{"root/pypi": 1}', '{"root/pypi": ["1"]}'])
def test_damaged_routes_are_those_of_a_new_mirror(nginx, content):
    nginx.ROUTES.write_text(content)
    assert nginx.stored_routes() == nginx.INITIAL


def test_routes_that_can_not_be_stored_are_not_outdated(nginx, monkeypatch):
    nginx.store_routes({"root/pypi": nginx.Route("1", has_policy=False)})

    def fail(*_arguments: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="full"):
        nginx.store_routes({"root/pypi": nginx.Route("2", has_policy=True)})
    assert nginx.stored_routes() == nginx.INITIAL


def test_a_missing_or_damaged_process_id_is_ignored(nginx):
    nginx.reload()
    nginx.NGINX_PID.write_text("none")
    nginx.reload()
