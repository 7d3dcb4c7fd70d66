# SPDX-License-Identifier: GPL-3.0-or-later
"""What the image's entrypoint.py prepares before devpi-server and nginx start."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from devpi_mirror import compat
from devpi_server import config

IMAGE = Path(__file__).parents[3] / "roles" / "devpi_server" / "files" / "image"
pytestmark = pytest.mark.usefixtures("supervisor")


@pytest.fixture
def entrypoint(load, monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPI_MIRROR_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DEVPI_MIRROR_RUN", str(tmp_path))
    monkeypatch.setenv("DEVPI_MIRROR_ETC", str(IMAGE))
    module = load("entrypoint")
    monkeypatch.setattr(module.tls, "SOCKET_DIRECTORY", tmp_path / "socket")
    return module


def test_devpi_has_all_options_that_are_set(entrypoint):
    environ: dict[str, str] = {}
    entrypoint.set_default_options(environ)
    parser = config.get_parser(config.get_pluginmanager())
    options = {name.lstrip("-") for action in parser._actions for name in action.option_strings}
    assert {name.removeprefix("DEVPISERVER_").lower().replace("_", "-") for name in environ} <= options


def test_options_of_the_operator_take_precedence(entrypoint):
    chosen = {"DEVPISERVER_THREADS": "7", "DEVPISERVER_SERVERDIR": "/elsewhere", "OTHER": "kept"}
    environ = {**chosen, "DEVPISERVER_MIRROR_CACHE_EXPIRY": "60"}
    entrypoint.set_default_options(environ)
    assert (environ["DEVPISERVER_THREADS"], environ["OTHER"]) == ("7", "kept")
    # An option of devpi-server 6 means the same in 7.
    (name,) = compat.renamed({"DEVPISERVER_MIRROR_CACHE_EXPIRY": None})
    assert environ[name] == "60"
    assert environ["DEVPISERVER_SERVERDIR"] == str(entrypoint.SERVERDIR)


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_has_only_the_entries_that_httpx_supports(entrypoint, monkeypatch, name):
    for other in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("DEVPI_MIRROR_NO_PROXY", "")
    whole = "localhost,fd00::/8,[::1], 10.0.0.0/8,::1,.corp:80,[fe80::1]:8080,"
    monkeypatch.setenv(name, whole)
    entrypoint.limit_no_proxy(os.environ)
    assert os.environ["DEVPI_MIRROR_NO_PROXY"] == whole
    assert os.environ[name] == "localhost,::1,.corp:80,"
    httpx.Client().close()


def test_a_secret_is_created_once_and_readable_by_its_owner_only(entrypoint, tmp_path):
    path = tmp_path / "secret"
    # A start that was interrupted has left this file.
    (tmp_path / "secret.new").write_text("half")
    made = entrypoint.create_random(path, 24)
    assert len(made) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert entrypoint.create_random(path, 24) == made
    assert entrypoint.create_random(tmp_path / "other", 24) != made


def test_the_data_directory_is_created_once(entrypoint, monkeypatch):
    commands = []
    monkeypatch.setattr(entrypoint.subprocess, "run", lambda command, env, **_options: commands.append((command, env)))
    environ = {"DEVPISERVER_SERVERDIR": str(entrypoint.SERVERDIR), "DEVPISERVER_THREADS": "7", "OTHER": "kept"}
    entrypoint.prepare_data(environ)
    ((command, env),) = commands
    assert command == [entrypoint.BIN / "devpi-init"]
    password = (entrypoint.DATA / "root-password").read_text()
    assert env == {
        "DEVPISERVER_SERVERDIR": str(entrypoint.SERVERDIR), "DEVPISERVER_ROOT_PASSWD": password, "OTHER": "kept",
    }  # fmt: skip
    entrypoint.SERVERDIR.mkdir()
    (entrypoint.SERVERDIR / ".nodeinfo").touch()
    entrypoint.prepare_data(environ)
    assert len(commands) == 1


def test_a_replica_has_the_secret_of_its_primary(entrypoint, monkeypatch):
    commands = []
    monkeypatch.setattr(entrypoint.subprocess, "run", lambda command, env, **_options: commands.append(env))
    options = {
        "DEVPISERVER_SERVERDIR": str(entrypoint.SERVERDIR),
        "DEVPISERVER_ROLE": "replica",
        "DEVPISERVER_PRIMARY_URL": "https://primary.example",
    }
    environ = {**options, "DEVPISERVER_THREADS": "7", "DEVPI_MIRROR_SECRET": "of-the-primary"}
    entrypoint.prepare_data(environ)
    assert commands == [{**options, "DEVPISERVER_ROOT_PASSWD": ""}]
    path = entrypoint.DATA / "secret"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("of-the-primary", 0o600)
    assert "DEVPI_MIRROR_SECRET" not in environ
    assert not (entrypoint.DATA / "root-password").exists()
    # Its settings are those of the primary.
    entrypoint.apply_settings(environ)


def test_responses_that_earlier_releases_cached_are_removed(entrypoint):
    folder = entrypoint.RESPONSES.parent
    for name in ("tmp", entrypoint.RESPONSES.name, "responses-1"):
        (folder / name / "0").mkdir(parents=True)
    (folder / "uses.log").touch()
    entrypoint.remove_old_responses()
    assert {path.name for path in folder.iterdir()} == {"tmp", entrypoint.RESPONSES.name, "uses.log"}


@pytest.mark.parametrize(
    ("configured", "url"),
    [("", ""), ("https://bob:s3cret@a.example/simple/", "https://a.example/simple/")],
)
def test_the_index_gets_a_url_without_credentials(entrypoint, configured, url):
    assert entrypoint.wanted_settings({"DEVPI_MIRROR_UPSTREAM_URL": configured})["mirror_url"] == url


@pytest.fixture
def devpi(entrypoint, monkeypatch):
    """A devpi-server that starts and responds. ``sent`` has the requests to it, ``signals`` the signals."""
    state = SimpleNamespace(sent=[], started=0, ended=None, signals=[], failure=None)

    def start(_command, **_options):
        state.started += 1
        return SimpleNamespace(poll=lambda: state.ended, send_signal=state.signals.append, wait=lambda **_options: 0)

    def send(method, path, body=None, auth="", **_options):
        state.sent.append((method, path, body, auth))
        if state.failure and path != "/+api":
            raise state.failure
        return {"result": {"password": "token"}}

    monkeypatch.setattr(entrypoint.subprocess, "Popen", start)
    monkeypatch.setattr(entrypoint, "send", send)
    entrypoint.DATA.mkdir()
    (entrypoint.DATA / "root-password").write_text("password")
    return state


def test_changed_settings_are_applied_once(entrypoint, devpi):
    environ = {"DEVPI_MIRROR_UPSTREAM_URL": "https://a.example/simple/"}
    for _start in range(2):
        entrypoint.apply_settings(environ)
        assert devpi.started == len(devpi.signals) == 1
    assert devpi.sent[1] == ("POST", "/+login", {"user": "root", "password": "password"}, "")
    method, path, settings, auth = devpi.sent[2]
    assert (method, path, auth) == ("PATCH", "/root/pypi", "cm9vdDp0b2tlbg==")
    wanted = compat.renamed(entrypoint.wanted_settings(environ))
    assert sorted(settings) == sorted(f"{name}={value}" for name, value in wanted.items())


def test_without_an_upstream_the_index_gets_the_default_again(entrypoint, devpi):
    entrypoint.apply_settings({"DEVPI_MIRROR_UPSTREAM_URL": "https://a.example/simple/"})
    entrypoint.apply_settings({})
    assert devpi.started == 2
    (name,) = compat.renamed({"mirror_url": None})
    url = next(setting.partition("=")[2] for setting in devpi.sent[-1][2] if setting.startswith(f"{name}="))
    assert url == compat.default_mirror_url()
    assert url.endswith("/simple/")
    assert url != "https://a.example/simple/"


def test_settings_that_fail_are_applied_at_the_next_start(entrypoint, devpi):
    devpi.failure = OSError("401")
    with pytest.raises(OSError, match="401"):
        entrypoint.apply_settings({})
    assert len(devpi.signals) == 1
    devpi.failure = None
    entrypoint.apply_settings({})
    assert devpi.started == 2


def test_a_server_that_exits_is_an_error(entrypoint, devpi):
    devpi.ended = 1
    with pytest.raises(RuntimeError, match="did not start"):
        entrypoint.apply_settings({})
    assert devpi.sent == []


@pytest.mark.parametrize(("is_mounted", "listen"), [(False, ""), (True, "listen unix:{}/http.sock;\n")])
def test_nginx_listens_on_the_socket_that_systemd_forwards_to(entrypoint, is_mounted, listen):
    if is_mounted:
        entrypoint.tls.SOCKET_DIRECTORY.mkdir()
    entrypoint.configure_nginx({})
    assert entrypoint.tls.LISTEN_CONF.read_text() == listen.format(entrypoint.tls.SOCKET_DIRECTORY)


@pytest.mark.parametrize(
    ("replicas", "allowed"),
    [("", []), ("192.0.2.7 2001:db8::/32", ["192.0.2.7", "2001:db8::/32"]), ("192.0.2.7; fd00::1", ["fd00::1"])],
)
def test_only_replicas_can_request_all_changes(entrypoint, replicas, allowed):
    entrypoint.configure_nginx({"DEVPI_MIRROR_REPLICAS": replicas})
    lines = [*(f"allow {address};" for address in allowed), "deny all;"]
    assert entrypoint.REPLICAS_CONF.read_text().splitlines() == lines


def test_nginx_gets_only_valid_names_of_allowed_hosts(entrypoint):
    entrypoint.configure_nginx({"DEVPI_MIRROR_ALLOWED_HOSTS": 'PyPI.example localhost default b.example; } "c"'})
    names = ["b.example", "c", "default", "pypi.example"]
    assert entrypoint.ALLOWED_HOSTS_CONF.read_text() == "".join(f'"\\\\{name}" "";\n' for name in names)


@pytest.mark.parametrize(("value", "is_enabled"), [(None, False), ("true", True)])
def test_metrics_are_provided_only_if_they_are_enabled(entrypoint, value, is_enabled):
    environ = {"DEVPI_MIRROR_METRICS": value} if value else {}
    entrypoint.METRICS_LOG.parent.mkdir(parents=True)
    entrypoint.METRICS_LOG.touch()
    entrypoint.configure_metrics(environ)
    # The requests of the previous container are not counted again.
    assert not entrypoint.METRICS_LOG.exists()
    assert (f"access_log {entrypoint.METRICS_LOG} metrics" in entrypoint.METRICS_CONF.read_text()) is is_enabled
    # supervisord.conf reads this variable.
    assert "autostart = %(ENV_DEVPI_MIRROR_METRICS)s\n" in (IMAGE / "supervisord.conf").read_text()
    assert environ["DEVPI_MIRROR_METRICS"] == ("true" if is_enabled else "false")
