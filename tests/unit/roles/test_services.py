# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of upstart and launchd, which can't run here, and the script that all services run.

UPDATE_GOLDEN=1 in the environment updates the golden files. Read the changes before you commit them.
"""

from __future__ import annotations

import json
import os
import plistlib
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROLE = HERE.parents[2] / "roles" / "devpi_server"
GOLDEN = HERE / "golden"
DAEMON = {"DOCKER_HOST": "unix:///var/run/docker.sock", "DOCKER_TLS": "", "DOCKER_TLS_VERIFY": ""}
HOST = {
    "engine": {"command": "/usr/bin/docker", "environment": DAEMON, "running": True, "version": "18.06.3-ce"},
    "container": None,
    "image_present": True,
    "existing_paths": ["/etc/ssl/certs/ca-certificates.crt"],
    "memory": 0,
    "file_contents": {},
}
CONFIG_HASH = "fedcba9876543210"
# A docker command that records its arguments, and succeeds if the files engine and image exist.
DOCKER = """#!/bin/sh
echo "$*" >>"$TEST_FOLDER/calls"
echo "$DOCKER_HOST" >>"$TEST_FOLDER/sockets"
if [ -e "$TEST_FOLDER/hang" ]; then exec /bin/sleep 300; fi
case $* in
version) [ -e "$TEST_FOLDER/engine" ] ;;
image*) [ -e "$TEST_FOLDER/image" ] ;;
"container ls"*) echo 4242 ;;
# At the first call, the engine is still removing the container.
"container inspect"*) [ ! -e "$TEST_FOLDER/gone" ] && touch "$TEST_FOLDER/gone" ;;
esac
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Return a folder with the service files of each variant, rendered by Ansible in one run, as each takes seconds."""
    folder = tmp_path_factory.mktemp("rendered")
    engine = {**HOST["engine"], "command": str(folder / "docker")}
    # On a Mac, commands use the daemon of a user.
    mac = {**HOST, "init": "launchd", "engine": {**HOST["engine"], "environment": {}}}
    variants = {
        "upstart": {"__devpi_server_host": {**HOST, "init": "upstart"}},
        "launchd": {"__devpi_server_host": mac},
        "upstart-with-test-docker": {"__devpi_server_host": {**HOST, "init": "upstart", "engine": engine}},
        "launchd-with-test-docker": {"__devpi_server_host": {**mac, "engine": {**engine, "environment": {}}}},
        "pull": {"__devpi_server_host": {**HOST, "init": "upstart"}, "devpi_server_image_source": "pull"},
    }
    for name, variables in variants.items():
        (folder / name).mkdir()
        (folder / f"{name}.json").write_text(json.dumps(variables))
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    values = {
        "role": str(ROLE),
        "folder": str(folder),
        "ansible_python_interpreter": sys.executable,
        "__devpi_server_ca_bundle": "/etc/ssl/certs/ca-certificates.crt",
        "__devpi_server_config_hash": CONFIG_HASH,
        "devpi_server_image": "devpi-mirror:0123456789abcdef",
        "devpi_server_engine_user": "ada",
    }
    # What another administrator has configured must not change a file, which would restart the mirror.
    config = folder / "ansible.cfg"
    config.write_text("[defaults]\nansible_managed = Managed by Ada\n")
    playbook = Path(sys.executable).with_name("ansible-playbook")
    hosts = ",".join(variants) + ","
    command = [str(playbook), "--inventory", hosts, "--extra-vars", json.dumps(values), str(HERE / "render.yml")]
    env = {**os.environ, "ANSIBLE_CONFIG": str(config)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("init", ["upstart", "launchd"])
def test_the_service_files_are_the_golden_ones(rendered, init):
    found = {path.name: path.read_text() for path in (rendered / init).iterdir()}
    golden = GOLDEN / init
    if os.environ.get("UPDATE_GOLDEN"):
        golden.mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (golden / name).write_text(text)
    assert found == {path.name: path.read_text() for path in golden.iterdir()}


@pytest.mark.parametrize("init", ["upstart", "launchd"])
def test_users_cannot_read_the_hash_of_passwords(rendered, init):
    hashed = {
        path.name: path.stat().st_mode & 0o777
        for path in (rendered / init).iterdir()
        if CONFIG_HASH in path.read_text()
    }
    assert hashed == {"devpi-mirror.labels": 0o600}


def test_launchd_can_read_its_service():
    service = plistlib.loads((GOLDEN / "launchd" / "devpi.mirror.devpi.plist").read_bytes())
    assert service["Label"] == "devpi.mirror.devpi"
    assert service["ProgramArguments"] == ["/bin/sh", "/etc/devpi-mirror.sh", "run"]
    assert service["KeepAlive"] is True
    assert service["RunAtLoad"] is True


def test_upstart_watches_a_process_that_stays():
    job = (GOLDEN / "upstart" / "devpi-docker.conf").read_text()
    script = (GOLDEN / "upstart" / "devpi-mirror.sh").read_text()
    assert "exec /bin/sh /etc/devpi-mirror.sh run" in job
    assert "--detach" not in script
    # Docker had this option later than the last release for a distribution that has upstart.
    assert "--pull never" not in script


@pytest.fixture(params=["upstart", "launchd"])
def script(request, rendered, tmp_path, monkeypatch):
    """Start the script with the docker command DOCKER, and with pauses of 0.05 s."""
    pause = tmp_path / "bin" / "sleep"
    pause.parent.mkdir()
    pause.write_text("#!/bin/sh\nexec /bin/sleep 0.05\n")
    pause.chmod(0o755)
    readlink = pause.with_name("readlink")
    readlink.write_text('#!/bin/sh\ncat "$TEST_FOLDER/link"\n')
    readlink.chmod(0o755)
    monkeypatch.setenv("PATH", f"{pause.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    path = rendered / f"{request.param}-with-test-docker" / "devpi-mirror.sh"

    @contextmanager
    def start():
        with (
            (tmp_path / "log").open("w") as stream,
            subprocess.Popen(["/bin/sh", str(path), "run"], stderr=stream) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    start.init = request.param
    return start


def wait_for(condition, limit=30.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_it_waits_for_the_docker_daemon_and_for_the_image_and_reports_each_once(script, tmp_path):
    log = tmp_path / "log"
    with script() as process:
        wait_for(lambda: "Waiting for the Docker daemon" in log.read_text())
        (tmp_path / "engine").touch()
        wait_for(lambda: "Run the playbook" in log.read_text())
        (tmp_path / "image").touch()
        assert process.wait(30) == 0
    assert len(log.read_text().splitlines()) == 2
    calls = (tmp_path / "calls").read_text().splitlines()
    inspect = "container inspect 4242"
    assert calls[-6:-1] == ["stop -t 8 4242", "rm --force 4242", inspect, inspect, "network inspect devpi-mirror"]
    assert calls[-1].startswith("run --rm --name devpi ")
    assert calls[-1].endswith(" devpi-mirror:0123456789abcdef")


def test_a_docker_daemon_that_hangs_does_not_block_a_stop(rendered, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    (tmp_path / "hang").touch()
    text = (rendered / "upstart-with-test-docker" / "devpi-mirror.sh").read_text()
    assert "\nlimit=10\n" in text
    path = tmp_path / "devpi-mirror.sh"
    path.write_text(text.replace("\nlimit=10\n", "\nlimit=1\n"))
    subprocess.run(["/bin/sh", str(path), "stop"], check=True, timeout=60)
    assert (tmp_path / "calls").read_text().startswith("container ls")


def test_upstart_pauses_before_a_respawn_only():
    job = (GOLDEN / "upstart" / "devpi-docker.conf").read_text()
    script = job.partition("post-stop script\n")[2].partition("end script")[0]
    script = script.replace("/bin/sh /etc/devpi-mirror.sh stop", ":").replace("sleep 2", "echo pause")
    for status, output in (("devpi-docker start/post-stop", "pause\n"), ("devpi-docker stop/post-stop", "")):
        text = f'initctl() {{ echo "{status}, process 7"; }}\n{script}'
        assert subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, check=True).stdout == output


@pytest.mark.parametrize(
    ("link", "used"),
    [
        ("/Users/ada/.orbstack/run/docker.sock", "/Users/ada/.orbstack/run/docker.sock"),
        ("/Users/mallory/.docker/run/docker.sock", "/Users/ada/.docker/run/docker.sock"),
        ("/Users/ada/../mallory/docker.sock", "/Users/ada/.docker/run/docker.sock"),
        ("", "/Users/ada/.docker/run/docker.sock"),
    ],
)
def test_only_the_daemon_of_the_host_or_on_a_mac_of_the_user_is_used(script, tmp_path, monkeypatch, link, used):
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    (tmp_path / "link").write_text(link)
    for name in ("engine", "image"):
        (tmp_path / name).touch()
    with script() as process:
        assert process.wait(30) == 0
    expected = {"upstart": {"unix:///var/run/docker.sock"}, "launchd": {"unix://" + used}}
    assert set((tmp_path / "sockets").read_text().split()) == expected[script.init]


def test_a_signal_ends_it_while_it_waits(script, tmp_path):
    with script() as process:
        wait_for((tmp_path / "log").read_text)
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_a_pulled_image_that_is_missing_is_pulled_again(rendered):
    text = (rendered / "pull" / "devpi-mirror.sh").read_text()
    assert 'docker image inspect "$image" || "$docker" pull "$image"' in text
