# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of upstart and launchd, which can't run here, and the script that all units run.

A golden file that is out of date is written anew with UPDATE_GOLDEN=1 in the environment, to be read before it is committed.
"""

from __future__ import annotations

import json
import os
import plistlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROLE = HERE.parents[2] / "roles" / "devpi_server"
GOLDEN = HERE / "golden"
HOST = {
    "engine": {"command": "/usr/bin/docker", "running": True, "root": "/var/lib/docker", "version": "18.06.3-ce"},
    "container": None,
    "image_present": True,
    "paths": ["/etc/ssl/certs/ca-certificates.crt"],
    "texts": {},
}
# What the script waits for, and how it ends, by what this says.
DOCKER = """#!/bin/sh
echo "$*" >>"{folder}/calls"
case $* in
version) [ -e "{folder}/engine" ] ;;
image*) [ -e "{folder}/image" ] ;;
"container ls"*) echo 4242 ;;
# The engine is still removing it at the first look.
"container inspect"*) [ ! -e "{folder}/gone" ] && touch "{folder}/gone" ;;
esac
"""


def render(folder: Path, init: str, **variables: object) -> Path:
    """Render the unit for ``init`` into ``folder``, with the real templating."""
    values = {
        "role": str(ROLE),
        "folder": str(folder),
        "__devpi_server_host": dict(HOST, init=init),
        "__devpi_server_ca_bundle": "/etc/ssl/certs/ca-certificates.crt",
        "__devpi_server_config_hash": "0123456789abcdef",
        "devpi_server_image": "devpi-mirror:0123456789abcdef",
        **variables,
    }
    playbook = Path(sys.executable).with_name("ansible-playbook")
    command = [str(playbook), "--extra-vars", json.dumps(values), str(HERE / "render.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("init", ["upstart", "launchd"])
def test_the_unit_is_the_golden_one(tmp_path, init):
    rendered = {path.name: path.read_text() for path in render(tmp_path, init).iterdir()}
    golden = GOLDEN / init
    if os.environ.get("UPDATE_GOLDEN"):
        golden.mkdir(parents=True, exist_ok=True)
        for name, text in rendered.items():
            (golden / name).write_text(text)
    assert rendered == {path.name: path.read_text() for path in golden.iterdir()}


def test_launchd_can_read_its_unit():
    unit = plistlib.loads((GOLDEN / "launchd" / "devpi.mirror.devpi.plist").read_bytes())
    assert unit["Label"] == "devpi.mirror.devpi"
    assert unit["ProgramArguments"] == ["/bin/sh", "/etc/devpi-mirror.sh", "run"]
    assert unit["KeepAlive"] is True
    assert unit["RunAtLoad"] is True


def test_upstart_watches_a_process_that_stays():
    job = (GOLDEN / "upstart" / "devpi-docker.conf").read_text()
    script = (GOLDEN / "upstart" / "devpi-mirror.sh").read_text()
    assert "exec /bin/sh /etc/devpi-mirror.sh run" in job
    assert "--detach" not in script
    # Docker had this option later than the last release for a distribution that has upstart.
    assert "--pull never" not in script


@pytest.fixture(params=["upstart", "launchd"])
def script(request, tmp_path):
    """The script, with a docker command that does as told, and records what it was asked."""
    docker = tmp_path / "docker"
    docker.write_text(DOCKER.format(folder=tmp_path))
    docker.chmod(0o755)
    host = dict(HOST, init=request.param, engine=dict(HOST["engine"], command=str(docker)))
    return render(tmp_path, request.param, __devpi_server_host=host) / "devpi-mirror.sh"


def wait_for(condition, limit=30.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_it_waits_for_the_engine_and_for_the_image_and_says_so_once(script):
    folder = script.parent
    said = folder / "said"
    with said.open("w") as stream, subprocess.Popen(["/bin/sh", str(script), "run"], stderr=stream) as process:
        wait_for(lambda: "Waiting for the Docker engine" in said.read_text())
        (folder / "engine").touch()
        wait_for(lambda: "Run the playbook" in said.read_text())
        (folder / "image").touch()
        assert process.wait(30) == 0
    assert len(said.read_text().splitlines()) == 2
    calls = (folder / "calls").read_text().splitlines()
    look = "container inspect 4242"
    assert calls[-5:-1] == ["stop -t 8 4242", "rm --force 4242", look, look]
    assert calls[-1].startswith("run --rm --name devpi ")
    assert calls[-1].endswith(" devpi-mirror:0123456789abcdef")


def test_it_ends_at_once_while_it_waits(script):
    said = script.parent / "said"
    with said.open("w") as stream, subprocess.Popen(["/bin/sh", str(script), "run"], stderr=stream) as process:
        wait_for(said.read_text)
        process.terminate()
        assert process.wait(30) != 0


def test_what_was_pulled_is_pulled_again(tmp_path):
    text = (render(tmp_path, "upstart", devpi_server_image_source="pull") / "devpi-mirror.sh").read_text()
    assert '"$docker" image inspect "$image" || "$docker" pull "$image"' in text
