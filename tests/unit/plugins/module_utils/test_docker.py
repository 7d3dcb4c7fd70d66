# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _docker


def test_command_that_exits():
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert _docker.execute([sys.executable, "-c", script]) == (3, "out\n", "err\n")


def test_command_that_hangs_is_killed():
    script = "import time; print('out', flush=True); time.sleep(600)"
    assert _docker.execute([sys.executable, "-c", script], 0.5) == (1, "", "no response within 0.5 s")


@pytest.mark.parametrize(
    ("system", "daemon", "verify"),
    [
        ("Linux", "unix:///var/run/docker.sock", ""),
        ("FreeBSD", "unix:///var/run/docker.sock", ""),
        ("Darwin", "unix:///home/ada/docker.sock", "1"),
    ],
)
def test_daemon_that_variables_select_is_used_on_macos_only(monkeypatch, tmp_path, system, daemon, verify):
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$DOCKER_HOST [$DOCKER_TLS_VERIFY] $HOME"\n')
    docker.chmod(0o755)
    monkeypatch.setattr(_docker.platform, "system", lambda: system)
    monkeypatch.setenv("DOCKER_HOST", "unix:///home/ada/docker.sock")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("HOME", "/root")
    assert _docker.execute([str(docker), "info"]) == (0, f"{daemon} [{verify}] /root\n", "")
