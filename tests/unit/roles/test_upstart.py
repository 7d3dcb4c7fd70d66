# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks of upstart, which is in no registry of packages: here, other programs have the names of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROLES = HERE.parents[2] / "roles"
# As initctl of upstart 1.13 answers.
INITCTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case $ANSWER in
running) echo "devpi-docker stop/waiting" ;;
waiting) echo "initctl: Unknown instance: " >&2; exit 1 ;;
absent) echo "initctl: Unknown job: devpi-docker" >&2; exit 1 ;;
*) echo "initctl: Unable to connect to Upstart" >&2; exit 1 ;;
esac
"""
# init-checkconf leaves files behind.
CHECKCONF = """#!/bin/sh
touch "$XDG_CONFIG_HOME/left" "$TMPDIR/left"
grep --quiet respawn "$1"
"""


def run(playbook: str, *arguments: str, **environ: str) -> str:
    program = Path(sys.executable).with_name("ansible-playbook")
    interpreter = ["--extra-vars", f"ansible_python_interpreter={sys.executable}"]
    command = [str(program), str(HERE / playbook), *interpreter, *arguments]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_job_is_stopped_with_initctl(tmp_path):
    make_program(tmp_path / "bin" / "initctl", INITCTL)
    output = run(
        "upstart.yml",
        *("--inventory", "running,waiting,absent,broken,", "--extra-vars", f"role={ROLES / 'devpi_server'}"),
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        CALLS=str(tmp_path / "calls"),
    )
    assert set((tmp_path / "calls").read_text().splitlines()) == {"stop devpi-docker"}
    for expected in ("running stopped", "waiting not running", "absent not running"):
        assert expected in output
    assert "broken stopped" not in output
    assert "broken not running" not in output
    assert output.count("fatal: ") == 1


@pytest.fixture
def checkconf(tmp_path):
    """Return what checkconf.yml prints, and the command that it writes."""
    tool = make_program(tmp_path / "bin" / "init-checkconf", CHECKCONF)
    output = tmp_path / "command"
    variables = {
        "roles": str(ROLES),
        "output": str(output),
        "__devpi_server_checkconf_tool": str(tool),
        "__devpi_server_host": {"existing_paths": [str(tool)], "memory": 0},
        "__docker_engine_host": {"init": "upstart"},
        "docker_engine_service": "docker",
    }
    printed = run("checkconf.yml", "--extra-vars", json.dumps(variables))
    assert output.exists(), printed
    return printed, output.read_text()


def test_a_job_is_checked_without_a_file_left_behind(checkconf, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    path = tmp_path / "job"
    for job, code in (("respawn\n", 0), ("nonsense\n", 1)):
        path.write_text(job)
        command = shlex.split(checkconf[1].replace("%s", str(path)))
        assert subprocess.run(command, env={**os.environ, "TMPDIR": str(temporary)}, check=False).returncode == code
    assert list(temporary.iterdir()) == []


def test_the_log_of_the_engine_is_where_upstart_writes_it(checkconf):
    assert "/var/log/upstart/docker.log" in checkconf[0]
