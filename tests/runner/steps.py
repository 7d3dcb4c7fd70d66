# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a test run: what each runs, and which steps it needs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .catalog import MOLECULE, Scenario, scenarios
from .environment import BIN, CACHE, COLLECTIONS, DIST, MODULE_LIBRARY, PYTHONS, ROOT, TREE, archive, find_pythons
from .prerequisites import IMAGE, IMAGE_7, prerequisite_steps, test_host
from .step import Step

PYTHON = str(BIN / "python")
KINDS = ("lint", "unit", "sanity", "integration", "molecule")
# ansible-test keeps its results and its temporary files in the collection.
ANSIBLE_TEST_LOCK = "ansible-test"
# Each call reuses what earlier ones have cached.
MYPY_LOCK = "mypy"
NEEDS_IMAGE_7 = ("backups", "indexes", "team")
NEEDS_ANSIBLE_RELEASES = ("compatibility",)
NEEDS_UPLOAD_TOOLS = ("indexes",)
UPLOAD_TOOLS = "environment of the tools that upload releases"
# The supported releases of ansible-core that the tests run on, oldest first.
ANSIBLE_RELEASES = sorted(path.stem.removeprefix("ansible-") for path in (ROOT / "requirements").glob("ansible-*.in"))
# Tests that run on the controller's Python alone, and tests that run on every Python that modules support.
CONTROLLER_TESTS = ("tests/unit/project", "tests/unit/roles", "tests/unit/runner", "tests/unit/plugins/filter")
IMAGE_TESTS = "tests/unit/image"
API_TESTS = "tests/integration/devpi_api"
# The releases of devpi-server that the image can have.
DEVPI_RELEASES = ("6", "7")
# Folders whose Python files users do not run, as ansible-test names them.
DEVELOPMENT = ("docs/", "molecule/", "tests/")
IMAGE_FILES = TREE / "roles" / "devpi_server" / "files" / "image"
MODULE_TESTS = ("tests/unit/plugins/module_utils", "tests/unit/plugins/modules")
# Seconds on two cores with three steps at a time. They determine the order of the steps.
SECONDS = {
    "indexes": 825,
    "faults": 820,
    "backups": 816,
    "image": 696,
    "default": 688,
    "clients": 559,
    "compatibility": 416,
    "cache": 378,
    "bare": 360,
    "sysvinit": 287,
    "openrc": 245,
    "runit": 245,
    "bullseye": 193,
    "server": 370,
    "team": 1500,
}
# Scenarios that run only if they are named, as they take too long for each run of all tests.
ON_REQUEST = ("team",)


class UsageError(Exception):
    """The options of a run are invalid. The message describes what to do instead."""


@dataclass(frozen=True)
class Options:
    """What to run. ``tests`` selects single tests, ``repeat`` is how often each scenario runs."""

    kinds: list[str] = field(default_factory=list)
    scenarios: list[str] = field(default_factory=list)
    tests: str = ""
    repeat: int = 1
    keep: bool = False


def mypy_steps() -> list[Step]:
    config = str(TREE / "pyproject.toml")
    # The cache must not become a part of the collection.
    mypy = ["mypy", "--strict", "--config-file", config, "--cache-dir", str(CACHE / "mypy")]
    # The modules of the scenarios import each other by name.
    folders = sorted({str(path.parent) for path in MOLECULE.glob("*/files/*.py")})
    scenarios_env = {"MYPYPATH": os.pathsep.join(folders)}
    benchmarks = TREE / "tests" / "benchmarks"
    benchmarks_env = {"MYPYPATH": str(TREE / "tests")}

    def step(name: str, folder: Path, arguments: list[str], env: dict[str, str] | None = None) -> Step:
        return Step(
            "lint", f"mypy, {name}", [*mypy, *arguments], lock=MYPY_LOCK, seconds=5, folder=folder, env=env or {}
        )

    return [
        step("plugins", COLLECTIONS, ["-p", "ansible_collections.devpi.mirror.plugins"]),
        step("image's package", IMAGE_FILES, ["-p", "devpi_mirror"]),
        step("test runner", TREE / "tests", ["-p", "runner"]),
        step("benchmarks", benchmarks, ["."], benchmarks_env),
        step("scenarios", MOLECULE, folders, scenarios_env),
        step("integration tests", TREE / API_TESTS, ["."]),
    ]


def lint_steps() -> list[Step]:
    build = ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(DIST)]
    importer = {"GALAXY_IMPORTER_CONFIG": str(TREE / "tests" / "galaxy-importer.cfg")}
    docs = "environment of the documentation"
    build_docs = [str(ROOT / ".venv" / "docs" / "bin" / "python"), "docs/site/build.py"]
    return [
        Step("prerequisite", docs, ["requirements/venv", "docs"], seconds=15, folder=ROOT),
        Step("lint", "documentation", build_docs, needs=(docs,), seconds=20, folder=ROOT),
        Step("lint", "ruff", ["ruff", "check", "."], seconds=1),
        Step("lint", "ruff format", ["ruff", "format", "--check", "."], seconds=1),
        Step("lint", "yamllint", ["yamllint", "--strict", "."], seconds=2),
        *mypy_steps(),
        Step("lint", "changelog", ["antsibull-changelog", "lint"], seconds=1),
        Step("lint", "ansible-lint", ["ansible-lint", "--offline", "--strict"], lock=ANSIBLE_TEST_LOCK, seconds=100),
        Step("lint", "build", build, lock=ANSIBLE_TEST_LOCK, seconds=1),
        Step(
            "lint", "galaxy-importer", [PYTHON, "-m", "galaxy_importer.main", str(archive())],
            needs=("build",), seconds=15, env=importer,
        ),
    ]  # fmt: skip


def unit_steps(selection: list[str]) -> list[Step]:
    """Return the steps of the unit tests.

    With a selection for pytest, they run on the Python of the tests alone, which has devpi-server 6.
    """
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    env = {"PYTHONPATH": str(COLLECTIONS)}
    if selection:
        return [Step("unit", "selected tests", [PYTHON, *pytest, "-v", *selection, "tests/unit"], env=env)]
    steps = [Step("unit", "controller", [PYTHON, *pytest, *CONTROLLER_TESTS], seconds=80, env=env)]
    for release in DEVPI_RELEASES:
        python = str(ROOT / ".venv" / f"image-tests-{release}" / "bin" / "python")
        steps += [
            devpi_environment_step(release),
            Step(
                "unit", f"image's package with devpi-server {release}", [python, *pytest, IMAGE_TESTS],
                needs=(devpi_environment(release),), seconds=80,
            ),
        ]  # fmt: skip
    for version in find_pythons():
        name = f"environment of Python {version}"
        python = str(ROOT / ".venv" / f"units-{version}" / "bin" / "python")
        steps += [
            Step("prerequisite", name, ["requirements/venv", f"units-{version}"], seconds=5, folder=ROOT),
            Step(
                "unit", f"modules on Python {version}", [python, *pytest, *MODULE_TESTS],
                needs=(name,), seconds=40, env={"PYTHONPATH": f"{COLLECTIONS}:{MODULE_LIBRARY}"},
            ),
        ]  # fmt: skip
    return steps


def devpi_environment(release: str) -> str:
    """Return the name of the step that creates the environment of a release of devpi-server."""
    return f"environment of devpi-server {release}"


def devpi_environment_step(release: str) -> Step:
    command = ["requirements/venv", f"image-tests-{release}"]
    return Step("prerequisite", devpi_environment(release), command, seconds=15, folder=ROOT)


def missing_pythons() -> list[str]:
    """Return the supported Python versions that this machine does not have."""
    return [version for version in PYTHONS if version not in find_pythons()]


def scenario_step(scenario: Scenario, options: Options, run: int) -> Step:
    """Return the step that runs a scenario. ``run`` is 0 if it runs once."""
    needs = [IMAGE, *map(test_host, scenario.test_images)]
    if scenario.name in NEEDS_IMAGE_7:
        needs.append(IMAGE_7)
    if scenario.name in NEEDS_ANSIBLE_RELEASES:
        needs += map(ansible_environment, ANSIBLE_RELEASES)
    if scenario.name in NEEDS_UPLOAD_TOOLS:
        needs.append(UPLOAD_TOOLS)
    command = [PYTHON, "-m", "runner.scenario", scenario.name]
    if options.tests:
        command += ["--tests", options.tests]
    if options.keep:
        command.append("--keep")
    return Step(
        "molecule",
        f"{scenario.name}, run {run} of {options.repeat}" if run else scenario.name,
        command,
        tuple(needs),
        lock=scenario.name,
        seconds=SECONDS.get(scenario.name, 200),
        env={"PYTHONPATH": str(ROOT / "tests")},
    )


def molecule_steps(options: Options) -> list[Step]:
    """Return the steps of the chosen scenarios and of their prerequisites. Raises UsageError for an unknown scenario."""
    available = scenarios()
    unknown = set(options.scenarios) - set(available)
    if unknown:
        raise UsageError(f"There is no scenario {', '.join(sorted(unknown))}. Choose from: {', '.join(available)}.")
    wanted = [available[name] for name in options.scenarios or available if options.scenarios or name not in ON_REQUEST]
    runs = range(1, options.repeat + 1) if options.repeat > 1 else [0]
    steps = [scenario_step(scenario, options, run) for run in runs for scenario in wanted]
    images = [image for scenario in wanted for image in scenario.test_images]
    if set(NEEDS_ANSIBLE_RELEASES) & {scenario.name for scenario in wanted}:
        steps = [ansible_environment_step(release) for release in ANSIBLE_RELEASES] + steps
    if set(NEEDS_UPLOAD_TOOLS) & {scenario.name for scenario in wanted}:
        steps.insert(0, Step("prerequisite", UPLOAD_TOOLS, ["requirements/venv", "uploads"], seconds=10, folder=ROOT))
    return prerequisite_steps(images, any(IMAGE_7 in step.needs for step in steps)) + steps


def ansible_environment(release: str) -> str:
    """Return the name of the step that creates the environment of a release of ansible-core."""
    return f"environment of ansible-core {release}"


def ansible_environment_step(release: str) -> Step:
    command = ["requirements/venv", f"ansible-{release}"]
    return Step("prerequisite", ansible_environment(release), command, seconds=8, folder=ROOT)


def sanity_steps() -> list[Step]:
    """Return ``ansible-test sanity`` with the oldest and the newest supported ansible-core.

    Each tests modules on one Python: the unit tests import them on all. Only the newest release tests ``DEVELOPMENT``.
    """
    steps = []
    development = [option for folder in DEVELOPMENT for option in ("--exclude", folder)]
    for release, python, options in (
        (ANSIBLE_RELEASES[0], PYTHONS[0], development),
        (ANSIBLE_RELEASES[-1], PYTHONS[-1], []),
    ):
        folder = ROOT / ".venv" / f"ansible-{release}" / "bin"
        steps += [
            ansible_environment_step(release),
            Step(
                "sanity", f"ansible-test sanity, ansible-core {release}",
                [str(folder / "ansible-test"), "sanity", "--python", python, *options],
                (ansible_environment(release),), lock=ANSIBLE_TEST_LOCK, seconds=130,
            ),
        ]  # fmt: skip
    return steps


def integration_steps() -> list[Step]:
    """Return the steps that test modules against real servers, those that change a server with each release of devpi-server."""
    target = "devpi_wait"
    command = [str(BIN / "ansible-test"), "integration", target]
    steps = [Step("integration", target, command, lock=ANSIBLE_TEST_LOCK, seconds=60)]
    pytest = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", API_TESTS]
    for release in DEVPI_RELEASES:
        steps += [
            devpi_environment_step(release),
            Step(
                "integration", f"modules with devpi-server {release}", [*pytest, "-k", f"devpi-{release}"],
                needs=(devpi_environment(release),), seconds=35, env={"PYTHONPATH": str(COLLECTIONS)},
            ),
        ]  # fmt: skip
    return steps


def all_steps(options: Options) -> list[Step]:
    """Return the steps of the chosen kinds. Raises UsageError for invalid options."""
    step_functions: dict[str, Callable[[], list[Step]]] = {
        "lint": lint_steps,
        "unit": lambda: unit_steps(shlex.split(options.tests)),
        "sanity": sanity_steps,
        "integration": integration_steps,
        "molecule": lambda: molecule_steps(options),
    }
    steps = [step for kind in options.kinds or KINDS for step in step_functions[kind]()]
    # Several kinds need the same environments.
    return list({step.name: step for step in steps}.values())
