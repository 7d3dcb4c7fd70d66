# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the script that all services run applies a TLS certificate, with a docker command that only records its arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROLE = HERE.parents[2] / "roles" / "devpi_server"
# Files in the folder of the test make a step fail.
DOCKER = """#!/bin/sh
echo "$*" >>"$TEST_FOLDER/calls"
case $1 in
version) [ ! -e "$TEST_FOLDER/no-engine" ] ;;
image) [ ! -e "$TEST_FOLDER/no-image" ] ;;
run)
    cat >"$TEST_FOLDER/checked"
    if [ -e "$TEST_FOLDER/invalid" ]; then echo "it has expired"; exit 1; fi
    echo "WARNING: not the owner" >&2
    echo "$(id -u):$(id -g)"
    ;;
container) [ -e "$TEST_FOLDER/no-container" ] || echo /run/mirror-tls ;;
exec)
    cp "$TEST_FOLDER/stored/server.pem" "$TEST_FOLDER/reloaded"
    if [ -e "$TEST_FOLDER/not-served" ]; then echo "nginx does not serve it"; exit 1; fi
    ;;
esac
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Return the folder with the script, and with the files that it reads and writes."""
    folder = tmp_path_factory.mktemp("certificate")
    engine = {"command": str(folder / "docker"), "environment": {}, "running": True, "version": "26.1.5"}
    host = {"init": "systemd", "engine": {**engine, "remaps_users": False}, "container": None, "image_present": True}
    variables = {
        "__devpi_server_host": {**host, "memory": 0, "existing_paths": [], "file_contents": {}},
        "devpi_server_tls_certificate": str(folder / "source" / "full chain.pem"),
        "devpi_server_tls_key": str(folder / "source" / "key.pem"),
        "__devpi_server_tls_folder": str(folder / "stored"),
    }
    (folder / "host").mkdir()
    (folder / "source").mkdir()
    (folder / "host.json").write_text(json.dumps(variables))
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    values = {
        "role": str(ROLE),
        "folder": str(folder),
        "ansible_python_interpreter": sys.executable,
        "__devpi_server_config_hash": "0123456789abcdef",
        "devpi_server_image": "devpi-mirror:0123456789abcdef",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", "host,"]
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(values), str(HERE / "render.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def folder(rendered):
    """Provide a first certificate that is served."""
    for path in [*rendered.glob("stored/*"), *(rendered / name for name in ("calls", "checked", "reloaded"))]:
        path.unlink(missing_ok=True)
    renew(rendered, "first")
    assert apply(rendered) == (0, "changed\n")
    (rendered / "reloaded").unlink()
    (rendered / "calls").unlink()
    yield rendered
    for name in ("no-engine", "no-image", "invalid", "no-container", "not-served"):
        (rendered / name).unlink(missing_ok=True)


def renew(folder, name):
    (folder / "source" / "full chain.pem").write_text(f"certificate {name}\n")
    (folder / "source" / "key.pem").write_text(f"key {name}\n")


def text(name):
    return f"certificate {name}\n\nkey {name}\n"


def apply(folder, *options):
    """Run the script, and return its exit status and its output."""
    command = ["sh", str(folder / "host" / "devpi-mirror.sh"), "certificate", *options]
    env = {**os.environ, "TEST_FOLDER": str(folder)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def stored(folder):
    return {path.name: path.read_text() for path in (folder / "stored").iterdir()}


def calls(folder):
    path = folder / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_an_unchanged_certificate_needs_no_docker(folder):
    assert apply(folder) == (0, "unchanged\n")
    assert apply(folder, "--check") == (0, "unchanged\n")
    assert calls(folder) == []


def test_a_renewed_certificate_is_checked_stored_and_reloaded(folder):
    renew(folder, "second")
    assert apply(folder) == (0, "changed\n")
    assert calls(folder) == ["version", "image", "run", "container", "exec"]
    assert stored(folder) == {"server.pem": text("second")}
    assert [(folder / name).read_text() for name in ("checked", "reloaded")] == [text("second")] * 2
    assert (folder / "stored").stat().st_mode & 0o777 == 0o700
    assert (folder / "stored" / "server.pem").stat().st_mode & 0o777 == 0o400
    assert "key second" not in (folder / "calls").read_text()


def test_check_mode_changes_nothing(folder):
    renew(folder, "second")
    assert apply(folder, "--check") == (0, "changed\n")
    assert stored(folder) == {"server.pem": text("first")}
    assert "exec" not in calls(folder)
    # Without the new image, the certificate can't be checked yet.
    (folder / "no-image").touch()
    (folder / "invalid").touch()
    assert apply(folder, "--check") == (0, "changed\n")


def test_check_mode_compares_the_paths_that_the_play_would_write(folder):
    other = folder / "source" / "other.pem"
    other.write_text("certificate other\n")
    key = str(folder / "source" / "key.pem")
    assert apply(folder, "--check", str(other), key) == (0, "changed\n")
    assert apply(folder, "--check", str(folder / "source" / "full chain.pem"), key) == (0, "unchanged\n")


def test_a_container_without_tls_is_not_reloaded(folder):
    renew(folder, "second")
    (folder / "no-container").touch()
    assert apply(folder) == (0, "changed\n")
    assert "exec" not in calls(folder)
    assert stored(folder) == {"server.pem": text("second")}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("invalid", "were not applied: it has expired. The mirror continues"),
        ("no-engine", "the Docker daemon does not respond"),
        ("no-image", "the image devpi-mirror:0123456789abcdef has been removed"),
        ("not-served", "nginx does not serve it"),
    ],
)
def test_a_failure_leaves_the_previous_certificate(folder, failure, reason):
    renew(folder, "second")
    (folder / failure).touch()
    status, output = apply(folder)
    assert status == 1
    assert reason in output
    assert "key second" not in output
    assert stored(folder) == {"server.pem": text("first")}
    (folder / failure).unlink()
    assert apply(folder) == (0, "changed\n")
    assert stored(folder) == {"server.pem": text("second")}


@pytest.mark.parametrize("name", ["full chain.pem", "key.pem"])
def test_a_missing_source_leaves_the_previous_certificate(folder, name):
    (folder / "source" / name).unlink()
    status, output = apply(folder)
    assert status == 1
    assert "they can't be read" in output
    assert stored(folder) == {"server.pem": text("first")}
    assert calls(folder) == []


def test_a_killed_run_is_completed(folder):
    # It has stored the certificate, and nginx has not read it.
    renew(folder, "second")
    (folder / "stored" / "server.pem").rename(folder / "stored" / "previous.pem")
    (folder / "stored" / "server.pem").write_text(text("second"))
    assert apply(folder) == (0, "changed\n")
    assert (folder / "reloaded").read_text() == text("second")
    assert stored(folder) == {"server.pem": text("second")}
