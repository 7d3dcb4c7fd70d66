# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults and argument specs of a role agree, and each variable is described once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.devpi.mirror.plugins.modules import devpi_index

ROOT = Path(__file__).resolve().parents[3]
# The role managed_host is internal.
ROLES = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
WITH_DEFAULTS = [role for role in ROLES if (ROOT / "roles" / role / "defaults" / "main.yml").exists()]


def load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def spec(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults" / "main.yml")


def is_computed(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


@pytest.mark.parametrize("role", ROLES)
def test_all_entry_points_have_the_same_options(role):
    points = spec(role)
    assert {name for name in points if points[name]["options"] != points["main"]["options"]} == set()
    assert len({point["short_description"] for point in points.values()}) == len(points)
    tasks = {path.stem for path in (ROOT / "roles" / role / "tasks").glob("*.yml")}
    assert set(points) <= tasks


@pytest.mark.parametrize("role", WITH_DEFAULTS)
def test_defaults_and_spec_have_the_same_variables(role):
    assert sorted(spec(role)["main"]["options"]) == sorted(defaults(role))


@pytest.mark.parametrize("role", WITH_DEFAULTS)
def test_defaults_and_spec_have_the_same_values(role):
    options = spec(role)["main"]["options"]
    for name, value in defaults(role).items():
        if is_computed(value):
            assert "default" not in options[name], name
        else:
            assert options[name]["default"] == value, name


def test_indexes_have_the_options_of_the_module():
    options = spec("devpi_server")["main"]["options"]["devpi_server_indexes"]["options"]
    assert set(options) == {"name", "type", "upload_time_project", *devpi_index.SETTINGS}
    for name, expected in devpi_index.SETTINGS.items():
        assert {key: value for key, value in options[name].items() if key != "description"} == expected, name


def test_all_roles_but_the_internal_one_have_a_spec():
    assert {path.name for path in (ROOT / "roles").iterdir()} - set(ROLES) == {"managed_host"}


def test_all_roles_but_the_one_that_includes_others_have_defaults():
    assert [role for role in ROLES if role not in WITH_DEFAULTS] == ["workstation"]


@pytest.mark.parametrize("role", WITH_DEFAULTS)
def test_variables_carry_the_name_of_their_role(role):
    own = set(defaults(role))
    for path in (ROOT / "roles" / role / "vars").rglob("*.yml"):
        own |= set(load(path))
    assert own
    assert {name for name in own if not re.match(rf"(__)?{role}_", name)} == set()


@pytest.mark.parametrize("role", WITH_DEFAULTS)
def test_no_role_reads_the_variables_of_another(role):
    others = "|".join(other for other in ROLES if other != role)
    for path in (ROOT / "roles" / role).rglob("*.yml"):
        if path.parent.name == "meta":
            continue
        code = re.sub(r"#.*", "", path.read_text())
        assert re.findall(rf"\b_*(?:{others})_\w+", code) == [], path


@pytest.mark.parametrize("role", ROLES)
def test_the_shared_values_are_read_in_defaults_alone(role):
    for path in (ROOT / "roles" / role).rglob("*.yml"):
        if path.parent.name not in ("defaults", "meta"):
            for line in path.read_text().splitlines():
                assert not re.search(r"\{\{[^}]*devpi_mirror_(host|port|index)", line), path


@pytest.mark.parametrize("role", WITH_DEFAULTS)
def test_defaults_have_headings_and_no_descriptions(role):
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    license_line, text = path.read_text().removeprefix("---\n").split("\n", 1)
    assert license_line.startswith("# SPDX-License-Identifier: ")
    for block in re.split(r"\n\n+", text.strip()):
        heading, *values = block.splitlines()
        assert re.fullmatch(r"# [^.:]{1,40}", heading), block
        assert not [line for line in values if line.lstrip().startswith("#")], block
