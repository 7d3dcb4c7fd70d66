# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import grp
import hashlib
import json
import pwd
import sys

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _docker, _host
from ansible_collections.devpi.mirror.plugins.modules import host_info

INFO = {"ServerVersion": "20.10.24", "DockerRootDir": "/", "Containers": 2, "Images": 5}
CONTAINER = [
    {
        "State": {"Running": True, "StartedAt": "now"},
        "HostConfig": {"RestartPolicy": {"Name": "no"}},
        "Config": {"Image": "devpi-mirror:1", "Labels": {"devpi.mirror.config": "abc"}},
        "Mounts": [{"Type": "volume", "Name": "devpi-data"}, {"Type": "bind", "Source": "/etc"}],
    }
]


@pytest.fixture
def docker(monkeypatch):
    """The output of docker commands, by their first two words. Other commands fail."""
    outputs = {"info --format": json.dumps(INFO)}

    def execute(args):
        out = outputs.get(" ".join(args[1:3]))
        return (1, "", "no such thing") if out is None else (0, out + "\n", "")

    monkeypatch.setattr(_docker, "execute", execute)
    monkeypatch.setattr(host_info.AnsibleModule, "get_bin_path", lambda self, name, opt_dirs: "/usr/bin/" + name)
    return outputs


def test_everything_exists(run_module, docker):
    docker["image inspect"] = "[]"
    docker["container inspect"] = json.dumps(CONTAINER)
    docker["ps --filter"] = "devpi"
    arguments = {"port": 3141, "image": "devpi-mirror:1", "container": "devpi"}
    result = run_module(host_info, arguments).result
    assert result["engine"]["running"]
    assert result["engine"]["version"] == "20.10.24"
    assert (result["engine"]["containers"], result["engine"]["images"]) == (2, 5)
    assert result["image_present"]
    assert result["container"] == {
        "running": True,
        "image": "devpi-mirror:1",
        "labels": {"devpi.mirror.config": "abc"},
        "volumes": ["devpi-data"],
        "started": "now",
        "restart_policy": "no",
    }
    assert result["publisher"] == "devpi"
    assert result["disk_free"] > 0
    assert result["memory"] > 0


def test_nothing_exists(run_module, docker):
    result = run_module(host_info, {"port": 3141, "image": "devpi-mirror:1", "container": "devpi"}).result
    assert (result["image_present"], result["container"], result["publisher"]) == (False, None, "")


@pytest.mark.parametrize(
    ("program", "is_engine", "publisher"),
    [
        pytest.param("docker-proxy", True, "devpi", id="container starts"),
        pytest.param("nginx", False, "", id="another program"),
    ],
)
def test_port_of_a_container_that_is_not_listed_yet(run_module, docker, monkeypatch, program, is_engine, publisher):
    calls = []

    def listener(port, addresses):
        calls.append(port)
        if len(calls) == 2:
            docker["ps --filter"] = "devpi"
        return _host.Listener("127.0.0.1", 0, 168, program)

    monkeypatch.setattr(_host, "listener", listener)
    result = run_module(host_info, {"port": 3141}).result
    assert (result["listener"], result["publisher"]) == (
        {"address": "127.0.0.1", "uid": 0, "pid": 168, "program": program, "is_engine": is_engine},
        publisher,
    )


@pytest.mark.parametrize(
    ("options", "remaps_users"),
    [
        (["name=seccomp,profile=builtin", "name=cgroupns"], False),
        (["name=seccomp,profile=builtin", "name=userns"], True),
        (["name=rootless"], True),
    ],
)
def test_daemon_that_remaps_users(run_module, docker, options, remaps_users):
    docker["info --format"] = json.dumps(dict(INFO, SecurityOptions=options))
    assert run_module(host_info, {}).result["engine"]["remaps_users"] == remaps_users


def test_daemon_does_not_respond(run_module, docker):
    docker["info --format"] = json.dumps({"ServerErrors": ["Cannot connect to the Docker daemon"]})
    result = run_module(host_info, {"image": "devpi-mirror:1", "container": "devpi"}).result
    assert not result["engine"]["running"]
    assert result["engine"]["error"] == "Cannot connect to the Docker daemon"
    assert (result["image_present"], result["container"]) == (False, None)
    assert run_module(host_info, {"image_label": "devpi.mirror.role"}).result["images"] == []


def test_docker_is_not_installed(run_module, docker, monkeypatch):
    monkeypatch.setattr(host_info.AnsibleModule, "get_bin_path", lambda self, name, opt_dirs: None)
    result = run_module(host_info, {}).result
    assert not result["engine"]["running"]
    assert result["engine"]["error"] == "the docker command is not installed"
    assert result["engine"]["command"] == ""


def test_images_with_a_label(run_module, docker):
    docker["image ls"] = "devpi-mirror:2\ndevpi-mirror:1\n<none>:<none>\nexample.com:5000/devpi:<none>"
    docker["ps --all"] = "devpi devpi-mirror:2\nother devpi-mirror:1\ndb 17c644a6172e"
    arguments = {"image_label": "devpi.mirror.role", "container": "devpi"}
    assert run_module(host_info, arguments).result["images"] == [
        {"name": "devpi-mirror:2", "is_used_by_others": False},
        {"name": "devpi-mirror:1", "is_used_by_others": True},
    ]
    del docker["image ls"]
    assert run_module(host_info, arguments).result["images"] == []
    assert "images" not in run_module(host_info, {}).result


def test_existing_volumes(run_module, docker):
    docker["volume ls"] = "devpi-data\nother"
    assert run_module(host_info, {"volumes": ["devpi-data", "devpi-data-7"]}).result["volumes"] == ["devpi-data"]
    assert run_module(host_info, {}).result["volumes"] == []


def test_existing_paths(run_module, docker):
    assert run_module(host_info, {"existing_paths": ["/", "/nowhere/at/all"]}).result["existing_paths"] == ["/"]


def test_contents_of_files(run_module, docker, tmp_path):
    (tmp_path / "unit").write_text("[Unit]")
    paths = [str(tmp_path / "unit"), str(tmp_path / "none")]
    assert run_module(host_info, {"file_contents": paths}).result["file_contents"] == {paths[0]: "[Unit]"}
    assert run_module(host_info, {"file_contents": [str(tmp_path / "u*")]}).result["file_contents"] == {
        paths[0]: "[Unit]"
    }


def test_checksums_of_files(run_module, docker, tmp_path):
    (tmp_path / "unit").write_text("[Unit]")
    paths = [str(tmp_path / "unit"), str(tmp_path / "none"), str(tmp_path)]
    found = run_module(host_info, {"file_checksums": paths}).result["file_checksums"]
    assert found == {paths[0]: hashlib.sha256(b"[Unit]").hexdigest()}


def test_python_version(run_module, docker):
    assert run_module(host_info, {}).result["python"] == ".".join(map(str, sys.version_info[:2]))


def test_users_and_groups(run_module, docker, monkeypatch):
    monkeypatch.setattr(_host.grp, "getgrnam", {"docker": grp.struct_group(("docker", "x", 999, ["ada"]))}.__getitem__)
    name = pwd.getpwuid(0).pw_name
    result = run_module(host_info, {"users": [name, "no-such-user"], "group": "docker"}).result
    assert (result["users"], result["group_members"]) == ([name], ["ada"])
    assert run_module(host_info, {"group": "no-such-group"}).result["group_members"] == []
    assert "group_members" not in run_module(host_info, {}).result


UNITS = """Id=devpi.service
ActiveState=active
UnitFileState=enabled

Id=devpi-port.socket
ActiveState=inactive
UnitFileState=enabled

Id=devpi-ca.path
ActiveState=active
UnitFileState=disabled

Id=missing.service
ActiveState=inactive
UnitFileState=
"""


@pytest.mark.parametrize(
    ("init", "output", "expected"),
    [("systemd", UNITS, ["devpi.service"]), ("systemd", "", []), ("none", UNITS, [])],
    ids=["systemd", "systemd does not respond", "no systemd"],
)
def test_running_units(run_module, docker, monkeypatch, init, output, expected):
    monkeypatch.setattr(_host, "init_system", lambda system: init)
    monkeypatch.setattr(_host._command, "execute", lambda command, env, timeout: (0, output, ""))
    arguments = {"systemd_units": ["devpi.service", "devpi-port.socket"]}
    assert run_module(host_info, arguments).result["systemd_units"] == expected
