# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter misspelled_variables. Its documentation is in misspelled_variables.yml."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Callable, Iterable

import yaml

ROLES = Path(__file__).parents[2] / "roles"
PREFIXES = ("devpi_mirror_", "devpi_server_", "docker_engine_", "pip_client_")
# Variables of the playbooks, and results of the roles.
OTHERS = (
    "devpi_mirror_hosts",
    "devpi_server_info",
    "devpi_server_replication_state",
    "devpi_server_secret",
    "pip_client_info",
)
# How similar two names without their prefixes are, from 0 to 1: a swapped pair of four letters has 0.75.
SIMILARITY = 0.7


@lru_cache(maxsize=None)
def known_variables() -> frozenset[str]:
    """Return the names of all variables of the roles, from their argument specs."""
    names = set(OTHERS)
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            names.update(spec.get("options", ()))
    return frozenset(names)


def misspelled_variables(names: Iterable[str]) -> list[str]:
    """Return a message for each name that is similar to that of a variable. Other names belong to the user's playbook."""
    messages = []
    for name in sorted(set(names) - known_variables()):
        for prefix in PREFIXES:
            if name.startswith(prefix):
                suffixes = [known[len(prefix) :] for known in known_variables() if known.startswith(prefix)]
                for suffix in difflib.get_close_matches(name[len(prefix) :], sorted(suffixes), 1, SIMILARITY):
                    messages.append(
                        f"{name} is not a variable of devpi.mirror: set {prefix}{suffix}, or rename a variable of your own."
                    )
    return messages


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[Iterable[str]], list[str]]]:
        return {"misspelled_variables": misspelled_variables}
