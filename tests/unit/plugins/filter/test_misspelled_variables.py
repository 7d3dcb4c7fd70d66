# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.devpi import mirror
from ansible_collections.devpi.mirror.plugins.filter.misspelled_variables import FilterModule

misspelled_variables = FilterModule().filters()["misspelled_variables"]
PROJECT = Path(mirror.__path__[0])


@pytest.mark.parametrize(
    ("name", "correct"),
    [
        ("devpi_mirror_prot", "devpi_mirror_port"),
        ("devpi_server_cache_max_sise", "devpi_server_cache_max_size"),
        ("devpi_server_upstream", "devpi_server_upstream_url"),
        ("pip_client_user", "pip_client_users"),
        ("docker_engine_user", "docker_engine_users"),
    ],
)
def test_the_message_has_the_correct_name(name, correct):
    (message,) = misspelled_variables(["ansible_user", name])
    assert message.startswith(f"{name} ")
    assert correct in message


@pytest.mark.parametrize(
    "name", ["devpi_server_result", "pip_client_summary", "devpi_mirror_port", "__devpi_server_prt"]
)
def test_other_names_have_none(name):
    assert misspelled_variables([name]) == []


def test_variables_of_roles_and_playbooks_have_none():
    names = set()
    for folder in ("roles", "playbooks"):
        for path in (PROJECT / folder).rglob("*.yml"):
            names.update(
                re.findall(r"\b(?:devpi_mirror|devpi_server|docker_engine|pip_client)_[a-z_]+", path.read_text())
            )
    assert len(names) > 50
    assert misspelled_variables(names) == []
