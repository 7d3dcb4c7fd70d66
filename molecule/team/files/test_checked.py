# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode before the first deployment."""

from __future__ import annotations

from hosts import LAPTOPS, SERVERS, on, run_play


def test_check_mode_changes_nothing_on_bare_hosts() -> None:
    groups = {"devpi_primary": ["one"], "devpi_replicas": ["two", "three"], "devpi_laptops": list(LAPTOPS)}
    run_play("converge.yml", groups, "--check", "--diff")
    for name in (*SERVERS, *LAPTOPS):
        assert on(name, "ls -d /etc/devpi* /home/*/.config/pip/pip.conf 2>/dev/null || true").split() == [
            "/home/bob/.config/pip/pip.conf"
        ]
