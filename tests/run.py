"""Run the tests, say how long each took, and count: run.py [KIND ...]

Kinds are lint, unit, sanity, integration and molecule; without any, all are run. What a step printed is kept in
.cache/logs, and shown if the step fails. Two steps run side by side.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LOGS = CACHE / "logs"
COLLECTIONS = CACHE / "test"
TREE = COLLECTIONS / "ansible_collections" / "devpi" / "mirror"
BIN = ROOT / ".venv" / "test" / "bin"
HOME = CACHE / "home"
DIST = CACHE / "dist"
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
# ansible-test looks for a script of this name before it fetches one from a host of its own.
GET_PIP = "get_pip_24_2.py"
STEP_LIMIT = 45 * 60
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


class Step(NamedTuple):
    """A command that passes or fails. ``kind`` is what it is run by, ``order`` when: see ``run_all``."""

    kind: str
    name: str
    order: str
    command: list[str]
    folder: Path = TREE


def pythons() -> list[str]:
    """Return the folders of the Pythons that modules run on, as far as this machine has them and they start."""
    folders = []
    for version in PYTHONS:
        name = f"python{version}"
        shelves = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
        candidates = [str(path) for shelf in shelves for path in shelf.glob(f"{version}.*/bin/{name}")]
        found = shutil.which(name)
        for candidate in [*candidates, *([found] if found else [])]:
            if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
                folders.append(str(Path(candidate).parent))
                break
    return folders


def environment() -> dict[str, str]:
    """Return the environment of the steps: a home of their own, and no settings of the user's."""
    bundle = os.environ.get("SSL_CERT_FILE") or next((path for path in BUNDLES if Path(path).exists()), "")
    kept = {"LANG", "TERM", "CI", "DOCKER_HOST", "http_proxy", "https_proxy", "no_proxy"}
    env = {name: value for name, value in os.environ.items() if name in kept or name.upper() in kept}
    found = pythons()
    path = [str(BIN), *found, *(p for p in os.environ["PATH"].split(os.pathsep) if "pyenv" not in p), "/usr/sbin"]
    env.update(
        PATH=os.pathsep.join(path),
        HOME=str(HOME),
        ANSIBLE_HOME=str(CACHE / "ansible"),
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_CALLBACK_RESULT_FORMAT="yaml",
        ANSIBLE_DISPLAY_SKIPPED_HOSTS="false",
        PY_COLORS="0",
        NO_COLOR="1",
        PYTHONDONTWRITEBYTECODE="1",
        DEVPI_MIRROR_TEST_CACHE=str(CACHE),
        # As volumes of a test host, in one string.
        DEVPI_MIRROR_TEST_PYTHONS=" ".join(
            f"{folder}:/opt/pythons/{folder.name}:ro"
            for folder in (Path(path).parent for path in found)
            if folder not in (Path("/usr"), Path("/usr/local"))
        ),
    )
    if bundle:
        env.update(SSL_CERT_FILE=bundle, REQUESTS_CA_BUNDLE=bundle, PIP_CERT=bundle)
    scripts = HOME / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tests" / "ansible_test" / "get_pip.py", scripts / GET_PIP)
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("[global]\n" + (f"cert = {bundle}\n" if bundle else ""))
    return env


def lay_out() -> None:
    """Put the collection where Ansible looks for it, with the files that belong to it and no others."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    # ansible-test asks git which files there are, and must not find this repository above.
    subprocess.run(["git", "init", "--quiet"], cwd=TREE, check=True)
    subprocess.run(["git", "add", "--all"], cwd=TREE, check=True)


def archive() -> str:
    """Return the name of the archive that the collection is built as."""
    fields = dict(re.findall(r"^(namespace|name|version): (\S+)$", (ROOT / "galaxy.yml").read_text(), re.MULTILINE))
    return f"{fields['namespace']}-{fields['name']}-{fields['version']}.tar.gz"


def steps() -> list[Step]:
    """Return all steps."""
    ansible_test = [str(BIN / "ansible-test")]
    python = str(BIN / "python")
    found = [
        Step("lint", "ruff", "chain", ["ruff", "check", "."]),
        Step("lint", "ruff format", "chain", ["ruff", "format", "--check", "."]),
        Step("lint", "yamllint", "chain", ["yamllint", "--strict", "."]),
        Step("lint", "mypy", "chain", ["mypy", "--config-file", str(TREE / "pyproject.toml"), "-p",
                                       "ansible_collections.devpi.mirror.plugins"], COLLECTIONS),
        Step("lint", "changelog", "chain", ["antsibull-changelog", "lint"]),
        Step("lint", "ansible-lint", "chain", ["ansible-lint", "--offline", "--strict"]),
        Step("lint", "build", "chain", ["ansible-galaxy", "collection", "build", "--force", "--output-path", str(DIST)]),
        Step("lint", "galaxy-importer", "chain", [python, "-m", "galaxy_importer.main", str(DIST / archive())]),
        Step("unit", "roles", "chain", [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/roles"]),
        Step("unit", "modules on every Python", "chain", [*ansible_test, "units", "--venv", "tests/unit/plugins/"]),
        Step("sanity", "ansible-test sanity", "chain", [*ansible_test, "sanity", "--venv"]),
        Step("integration", "devpi_wait", "chain", [*ansible_test, "integration", "--venv", "devpi_wait"]),
    ]  # fmt: skip
    if SCENARIOS:
        found.append(Step("molecule", "engine, image and test hosts", "hosts", ["ansible-playbook", "tests/hosts.yml"]))
    for scenario in SCENARIOS:
        found.append(Step("molecule", f"molecule {scenario}", "scenario", ["molecule", "test", "-s", scenario]))
    return found


def telling(lines: list[str]) -> list[str]:
    """Return the lines of a log that tell why a step failed: the end of the first task that did, and of the log.

    What molecule takes down after a failure is longer than what failed.
    """
    first = next((number for number, line in enumerate(lines) if re.match(r"(fatal|failed): \[", line)), None)
    if first is None:
        return lines[-150:]
    after = (number for number, line in enumerate(lines) if number > first and re.match(r"(TASK|PLAY) ", line))
    end = next(after, len(lines))
    return [*lines[max(first, end - 100) : end], "[...]", *lines[max(end, len(lines) - 30) :]]


class Report:
    """What has passed and failed so far, told as it happens."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._lock = threading.Lock()

    def add(self, step: Step, code: int, seconds: float, log: Path) -> None:
        with self._lock:
            if code == 0:
                self.passed += 1
                print(f"passed  {seconds:6.0f} s  {step.kind}: {step.name}", flush=True)
                return
            self.failed += 1
            print(f"FAILED  {seconds:6.0f} s  {step.kind}: {step.name} (exit {code}); from {log}:", flush=True)
            print(
                "\n".join("    " + line for line in telling(log.read_text(errors="replace").splitlines())), flush=True
            )

    def skip(self, step: Step, reason: str) -> None:
        with self._lock:
            self.failed += 1
            print(f"FAILED       0 s  {step.kind}: {step.name} (skipped: {reason})", flush=True)


def run(step: Step, env: dict[str, str], report: Report) -> bool:
    """Run one step, and tell whether it passed."""
    log = LOGS / (re.sub(r"\W+", "-", f"{step.kind}-{step.name}").strip("-") + ".log")
    started = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            step.command, cwd=step.folder, env=env, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=STEP_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            code = 124
            stream.write(f"\nIt took longer than {STEP_LIMIT} s, and was ended.\n".encode())
    report.add(step, code, time.monotonic() - started, log)
    return code == 0


def run_all(wanted: list[Step], env: dict[str, str], report: Report) -> None:
    """Run the steps, two side by side.

    What needs no engine is a chain, as its steps share their files. Beside it the test hosts are made. Then whoever is
    free takes the next scenario; without test hosts, none is tried.
    """
    by_order = {order: [step for step in wanted if step.order == order] for order in ("hosts", "chain", "scenario")}

    def run_hosts() -> bool:
        return all(run(step, env, report) for step in by_order["hosts"])

    def run_chain() -> None:
        for step in by_order["chain"]:
            run(step, env, report)

    with ThreadPoolExecutor(2) as pool:
        hosts = pool.submit(run_hosts)
        chain = pool.submit(run_chain)

        def run_scenario(step: Step) -> None:
            if not hosts.result():
                report.skip(step, "it has no test hosts")
            elif not run(step, env, report):
                # Where molecule's own cleaning up fails too, it leaves the test host running.
                destroy = ["molecule", "destroy", "-s", step.command[-1]]
                subprocess.run(destroy, cwd=step.folder, env=env, capture_output=True, check=False)

        for future in [chain, *(pool.submit(run_scenario, step) for step in by_order["scenario"])]:
            future.result()


def engine_pid() -> int | None:
    """Return the process number of the Docker engine of this machine, None if there is none."""
    try:
        pid = int(Path("/run/docker.pid").read_text())
        # After a power cut the file can name a process that is another program by now.
        return pid if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd" else None
    except (OSError, ValueError):
        return None


def stop_engine() -> None:
    """Stop the engine, and wait until it has gone."""
    pid = engine_pid()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    for _attempt in range(600):
        if engine_pid() is None:
            return
        time.sleep(0.1)


@contextmanager
def engine_left_as_found() -> Iterator[None]:
    """Stop, at the end, an engine that was not there before. One that was is somebody else's."""
    starts_engine = engine_pid() is None
    try:
        yield
    finally:
        if starts_engine:
            stop_engine()


def make_hosts(*wanted: str) -> None:
    """Have an engine, the mirror's image and these test hosts' images. Raises CalledProcessError."""
    command = ["ansible-playbook", "tests/hosts.yml", "--extra-vars", json.dumps({"wanted": wanted})]
    subprocess.run(command, cwd=TREE, env=environment(), check=True)


def main() -> int:
    kinds = sys.argv[1:]
    wanted = [step for step in steps() if not kinds or step.kind in kinds]
    if not wanted:
        print(f"There is no test of the kind {' or '.join(kinds)}.", file=sys.stderr)
        return 2
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    # What molecule remembers of hosts that an interrupted run has left, which may have gone since.
    shutil.rmtree(CACHE / "ansible" / "tmp", ignore_errors=True)
    lay_out()
    env = environment()
    report = Report()
    started = time.monotonic()
    with engine_left_as_found():
        run_all(wanted, env, report)
    print(f"All of it took {time.monotonic() - started:.0f} s.")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
