# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the mirror and its alternatives, and print one table: speed.py [MEASUREMENT ...]

All servers are on loopback. Upstreams are replayed from a recording, with or without an emulated network link, so that the
figures do not depend on the machine's network. What is compared is measured in turns, in one run. Saves all figures in
.cache/bench/speed.json, and draws docs/speed.svg. Measurements are first, resolve, warm, load, capacity, start and converged;
the default is all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import capacity
import load
import pygal  # type: ignore[import-not-found]
import recording
import resolving
import servers
from pygal.style import LightGreenStyle  # type: ignore[import-not-found]
from runner.docker_daemon import docker_daemon_left_as_found
from runner.environment import BIN as TEST_BIN
from runner.environment import CACHE, ROOT, TREE, environment, lay_out
from runner.prerequisites import build_test_hosts
from servers import Server

FOLDER = CACHE / "bench"
MEMORY = Path("/dev/shm")
RECORDING = FOLDER / "recording"
RESOLVING = FOLDER / "resolving"
PYTHON = ROOT / ".venv" / "bench" / "bin" / "python"
CONSTRAINTS = RECORDING / "constraints.txt"
WARM_ROUNDS = 5
FIRST_ROUNDS = 3
PAGES = ("six", "boto3", "pydantic-core")
CLIENTS = (1, 8, 32)
MIRROR = "mirror"

Times = dict[str, list[float]]


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def timed(command: list[Any], **options: Any) -> float:
    """Run a command, and return its duration in seconds. Raises RuntimeError with its output if it fails."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds


class Installers:
    """pip and uv. Each call starts without a cache of its own, and returns its duration in seconds.

    Files are installed in memory if there is enough, because the disk would dominate the measurement.
    """

    def __init__(self) -> None:
        self.folder = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4e9 else FOLDER
        self.env = dict(os.environ, PIP_CONFIG_FILE=os.devnull, UV_NO_CONFIG="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
        self.env["TMPDIR"] = str(self.folder)
        for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
            self.env.pop(name, None)

    def run(self, command: list[Any], index: list[Any], target_option: str) -> float:
        with tempfile.TemporaryDirectory(dir=self.folder) as target:
            return timed([*command, target_option, target, "-c", CONSTRAINTS, *index, *recording.SET], env=self.env)

    def both(self) -> dict[str, Callable[[list[Any]], float]]:
        return {"pip": self.pip, "uv": self.uv}

    def pip(self, index: list[Any]) -> float:
        command = [PYTHON, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--only-binary", ":all:"]
        return self.run(command, index, "--dest")

    def uv(self, index: list[Any]) -> float:
        command = [PYTHON.with_name("uv"), "pip", "install", "--quiet", "--no-cache", "--python", PYTHON]
        return self.run(command, index, "--target")


def in_turns(rounds: int, ways: Mapping[str, Callable[[], float]], what: str) -> Times:
    """Measure each way once in each round."""
    times: Times = {way: [] for way in ways}
    for number in range(rounds):
        for way, measure in ways.items():
            times[way].append(measure())
        log(
            f"{what}, round {number + 1} of {rounds}: "
            + ", ".join(f"{way} {seconds[-1]:.2f}" for way, seconds in times.items())
        )
    return times


class Stage:
    """The servers of a run, and the URL at which they reach the upstream."""

    def __init__(self, stack: ExitStack, image: str, env: dict[str, str]) -> None:
        self.image = image
        self.stack = stack
        self.env = env
        self.install = Installers()
        servers.create_network(stack)
        self.replay = self.up(servers.replay("upstream", RECORDING, image, "/simple/"))
        self.link = self.up(servers.link("link", image, self.replay))
        for server in (self.replay, self.link):
            servers.await_answer(server.url + "six/")
        # Its address, because proxpi redirects clients there when a download takes long.
        self.upstream = f"http://{self.link.address()}:8080/simple/"

    def up(self, server: Server) -> Server:
        server.start()
        self.stack.callback(server.stop)
        return server

    def mirror(self, name: str = MIRROR, *options: str) -> Server:
        return servers.mirror(name, self.image, self.upstream, *options)

    def plain(self, name: str = "plain") -> Server:
        return servers.plain(name, self.image)

    def proxpi(self, name: str = "proxpi") -> Server:
        return servers.proxpi(name, self.image, FOLDER / "proxpi", self.upstream)

    @cached_property
    def warmed(self) -> dict[str, Server]:
        """The caches, after an installation with pip and uv through each, and a static copy of the mirror's pages and files."""
        caches = {"plain devpi": self.plain(), "proxpi": self.proxpi(), MIRROR: self.mirror()}
        for way, server in caches.items():
            self.up(server)
            self.ready(server, way)
            for run in self.install.both().values():
                run(index(server))
        copy_of(caches[MIRROR], FOLDER / "copy")
        copy = self.up(servers.replay("copy", FOLDER / "copy", self.image, "/root/pypi/+simple/"))
        servers.await_answer(copy.url + "six/")
        return {"nginx static": copy, **caches}

    @contextmanager
    def started(self, server: Server, way: str) -> Iterator[Server]:
        """Run a server that is ready for requests."""
        server.start()
        try:
            self.ready(server, way)
            yield server
        finally:
            server.stop()

    def ready(self, server: Server, way: str) -> None:
        """Wait until a server that was just started is ready for requests."""
        if way == "plain devpi":
            servers.set_upstream(server, self.upstream)
        else:
            servers.await_answer(server.base + ("/+api" if way == MIRROR else "/index/six/"))


def index(server: Server) -> list[str]:
    return ["--index-url", server.url]


def copy_of(server: Server, folder: Path) -> None:
    """Copy a mirror's pages and the recorded files at the paths that they link, as static files."""
    shutil.rmtree(folder, ignore_errors=True)
    recorded = {path.name: path for path in (RECORDING / "files").rglob("*") if path.is_file()}
    for project in sorted(path.name for path in (RECORDING / "simple").iterdir() if path.is_dir()):
        page = f"{server.path}{project}/"
        for form in ("json", "html"):
            content = servers.get(server.base + page, form)
            recording.write_page(folder / page.strip("/"), form, content)
        for file in json.loads((folder / page.strip("/") / "page.json").read_bytes())["files"]:
            for name in {file["filename"], file["filename"] + ".metadata"} & recorded.keys():
                target = folder / urljoin(page, file["url"]).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.with_name(name).hardlink_to(recorded[name])


def first_time(stage: Stage, install: Callable[[list[Any]], float], what: str) -> Times:
    """Measure an installation through empty caches, and directly over the same network link."""

    def fresh(way: str, make: Callable[[str], Server]) -> Callable[[], float]:
        def measure() -> float:
            try:
                with stage.started(make("first"), way) as server:
                    return install(index(server))
            except RuntimeError as exc:
                # devpi responds with 404 if downloading the list of all projects takes too long.
                if way == MIRROR:
                    raise
                log(f"{what}, {way}: failed, trying again: {exc}")
            return measure()

        return measure

    ways: dict[str, Callable[[], float]] = {
        "direct": partial(install, index(stage.link)),
        MIRROR: fresh(MIRROR, stage.mirror),
    }
    ways |= {"plain devpi": fresh("plain devpi", stage.plain), "proxpi": fresh("proxpi", stage.proxpi)}
    return in_turns(FIRST_ROUNDS, ways, what)


def rate(server: Server, url: str, form: str, clients: int) -> float:
    """Return the requests per second that a server answers to this number of clients."""
    answered = load.send(url, form, clients).responses
    # Otherwise it would use processor time of the next measurement.
    server.await_idle()
    return answered / load.SECONDS


def largest_file(server: Server) -> str:
    """Return the URL of the numpy wheel."""
    wheel = next(path.name for path in (RECORDING / "wheelhouse").iterdir() if path.name.startswith("numpy-"))
    page = server.url + "numpy/"
    files = json.loads(servers.get(page))["files"]
    url: str = next(file["url"] for file in files if file["filename"] == wheel)
    return urljoin(page, url)


def under_load(ways: dict[str, Server]) -> dict[str, Times]:
    """Return requests per second, by request, way and round."""
    found: dict[str, Times] = {}
    asked = [(f"{name} {form}", form, clients) for name in PAGES for form in ("json", "html") for clients in CLIENTS]
    asked += [("wheel", "any", clients) for clients in CLIENTS]
    for what, form, clients in asked:
        row = f"{what}, {clients} client{'s' if clients > 1 else ''}"
        urls = {
            way: largest_file(server) if what == "wheel" else f"{server.url}{what.split()[0]}/"
            for way, server in ways.items()
        }
        turns = {way: partial(rate, ways[way], url, form, clients) for way, url in urls.items()}
        found[row] = in_turns(3, turns, row)
    return found


def start(server: Server, path: str) -> float:
    """Restart a server with its data, and return the seconds until its first response."""
    servers.docker("rm", "--force", "--volumes", server.name)
    started = time.monotonic()
    server.start()
    servers.await_answer(server.base + path)
    return time.monotonic() - started


def converged(env: dict[str, str]) -> Times:
    """Measure ``make site`` on a deployed machine, and a play that only gathers a few facts."""
    host = "devpi-mirror-test-bare"
    timed([TEST_BIN / "molecule", "create", "-s", "bare"], cwd=TREE, env=env)
    try:
        servers.docker("cp", str(TREE), f"{host}:/root/devpi.mirror")
        inside = ["docker", "exec", "--workdir", "/root/devpi.mirror", host]
        timed([*inside, "make", "site"])
        ways = {
            "empty play": partial(timed, [*inside, "playbooks/run", "tests/benchmarks/empty.yml"]),
            "site": partial(timed, [*inside, "make", "site"]),
        }
        return in_turns(WARM_ROUNDS, ways, "converged")
    finally:
        servers.docker("rm", "--force", "--volumes", host)
        timed([TEST_BIN / "molecule", "reset", "-s", "bare"], cwd=TREE, env=env)


def measure_first(stage: Stage) -> dict[str, Any]:
    return {
        f"{name}, first time": first_time(stage, run, f"{name}, first time")
        for name, run in stage.install.both().items()
    }


def measure_resolve(stage: Stage) -> dict[str, Any]:
    """Resolve requirements without versions, with and without core metadata at the upstream."""
    resolving.record(RESOLVING, PYTHON, stage.install.env)
    replay = stage.up(servers.replay("resolving", RESOLVING, stage.image, "/simple/"))
    found = {}
    for listing, path in (("metadata", "/simple/"), ("no metadata", "/wheels/simple/")):
        link = stage.up(servers.link(f"link-{listing.replace(' ', '-')}", stage.image, replay, path))
        servers.await_answer(link.url + "boto3/page.json")
        upstream = f"http://{link.address()}:8080{path}"
        for case in resolving.CASES:
            found[f"resolve {case}, {listing}"] = resolve(stage, case, link, upstream)
    return found


def resolve(stage: Stage, case: str, link: Server, upstream: str) -> Times:
    """Resolve one case directly over the link and through an empty mirror, and then again."""
    again: list[float] = []

    def compile_with(server: Server) -> float:
        requirements = "\n".join(resolving.CASES[case])
        return timed(resolving.compile_command(PYTHON, server.url), input=requirements, env=stage.install.env)

    def through_mirror() -> float:
        with stage.started(servers.mirror("first", stage.image, upstream), MIRROR) as server:
            seconds = compile_with(server)
            again.append(compile_with(server))
            return seconds

    times = in_turns(FIRST_ROUNDS, {"direct": partial(compile_with, link), MIRROR: through_mirror}, f"resolve {case}")
    return {**times, f"{MIRROR}, again": again}


def measure_warm(stage: Stage) -> dict[str, Any]:
    ways: dict[str, list[Any]] = {"wheelhouse": ["--no-index", "--find-links", RECORDING / "wheelhouse"]}
    ways |= {"upstream": index(stage.replay), "direct": index(stage.link)}
    ways |= {way: index(server) for way, server in stage.warmed.items()}
    ways[f"{MIRROR}, private index"] = ["--index-url", servers.create_private_index(stage.warmed[MIRROR])]
    # With prewarmed files that no client has installed yet.
    prewarmed = stage.up(stage.mirror("prewarmed"))
    stage.ready(prewarmed, MIRROR)
    stage.install.uv(index(prewarmed))
    ways[f"{MIRROR}, prewarmed"] = index(prewarmed)
    return {
        f"{name}, warm": in_turns(WARM_ROUNDS, {way: partial(run, args) for way, args in ways.items()}, f"{name}, warm")
        for name, run in stage.install.both().items()
    }


def measure_load(stage: Stage) -> dict[str, Any]:
    answers = under_load({way: server for way, server in stage.warmed.items() if way != "proxpi"})
    memory = {way: [server.memory() / 1e6] for way, server in stage.warmed.items() if way != "nginx static"}
    stored = {way: servers.sizes(stage.warmed[way]) for way in ("plain devpi", MIRROR)}
    return {
        "requests per second": answers,
        "memory": memory,
        "database": {way: [database / 1e6] for way, (database, _all) in stored.items()},
        "data directory": {way: [everything / 1e6] for way, (_database, everything) in stored.items()},
    }


def measure_capacity(stage: Stage) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        server = stage.up(stage.mirror("capacity", *capacity.tls_options(Path(folder))))
        stage.ready(server, MIRROR)
        stage.install.uv(index(server))
        installations = {
            f"installation of the set with {name}": partial(run, index(server))
            for name, run in stage.install.both().items()
        }
        return {"capacity": capacity.measure(server, largest_file(server), installations)}


def measure_start(stage: Stage) -> dict[str, Any]:
    page = "/root/pypi/+simple/six/"
    plain, mirror = (stage.warmed[way] for way in ("plain devpi", MIRROR))
    ways = {"plain devpi": (plain, page), f"{MIRROR}, a page": (mirror, page), f"{MIRROR}, devpi": (mirror, "/+api")}
    times = in_turns(WARM_ROUNDS, {way: partial(start, *asked) for way, asked in ways.items()}, "start to first answer")
    size = int(servers.docker("image", "inspect", "--format", "{{.Size}}", stage.image)) / 1e6
    return {"start": times, "image": {MIRROR: [size]}}


def measure_converged(stage: Stage) -> dict[str, Any]:
    return {"converged": converged(stage.env)}


MEASUREMENTS = {
    "first": measure_first,
    "resolve": measure_resolve,
    "warm": measure_warm,
    "load": measure_load,
    "capacity": measure_capacity,
    "start": measure_start,
    "converged": measure_converged,
}


DRAWN = ["pip, first time", "pip, warm", "uv, first time", "uv, warm"]

# The unit of each measurement, and the way that the others are compared with.
ROWS = {
    "pip, first time": ("s", "direct"),
    "uv, first time": ("s", "direct"),
    **{
        f"resolve {case}, {listing}": ("s", "direct")
        for case in resolving.CASES
        for listing in ("metadata", "no metadata")
    },
    "pip, warm": ("s", "upstream"),
    "uv, warm": ("s", "nginx static"),
    "memory": ("MB", "plain devpi"),
    "database": ("MB", "plain devpi"),
    "data directory": ("MB", "plain devpi"),
    "start": ("s", "plain devpi"),
    "image": ("MB", MIRROR),
    "converged": ("s", "empty play"),
}


def table_rows(found: dict[str, Any]) -> list[str]:
    """Return the rows of the table: for each way of each measurement, its median and its ratio to that of another way."""
    rows = [(name, *ROWS[name], times) for name, times in found.items() if name in ROWS]
    rows += [(name, "/s", "nginx static", times) for name, times in found.get("requests per second", {}).items()]
    table = ["| What | Way | Median | Ratio |", "| --- | --- | ---: | ---: |"]
    for name, unit, base, times in rows:
        compared = statistics.median(times[base])
        for way, values in times.items():
            median = statistics.median(values)
            table.append(f"| {name} | {way} | {median:,.2f} {unit} | {median / compared:.2f} x {base} |")
    for name, values in found.get("capacity", {}).items():
        table.append(f"| capacity | {name} | {statistics.median(values):,.1f} per processor second | |")
    return table


def draw(found: dict[str, Any], target: Path) -> None:
    """Draw the durations of installing the set, with an empty and with a warm cache."""
    chart = pygal.HorizontalBar(
        title=f"Seconds for a set of {len(list((RECORDING / 'wheelhouse').iterdir()))} packages (less is better)",
        width=900,
        height=520,
        style=LightGreenStyle,
        legend_at_bottom=True,
        print_values=True,
        value_formatter=lambda value: f"{value:.1f} s",
        js=[],
        disable_xml_declaration=True,
    )
    chart.x_labels = DRAWN
    for way, label in (
        ("direct", "directly"),
        ("plain devpi", "plain devpi"),
        ("proxpi", "proxpi"),
        (MIRROR, "devpi.mirror"),
    ):
        chart.add(label, [statistics.median(found[name][way]) for name in DRAWN])
    target.write_text(chart.render(is_unicode=True, pretty_print=True) + "\n")


def install_proxpi(image: str) -> None:
    """Install proxpi for the Python of the image."""
    shutil.rmtree(FOLDER / "proxpi", ignore_errors=True)
    script = "import sys; print('{}.{}'.format(*sys.version_info))"
    version = servers.docker("run", "--rm", "--entrypoint", "/usr/bin/python3", image, "-c", script)
    command = [PYTHON.with_name("uv"), "pip", "install", "--quiet", "--target", FOLDER / "proxpi", "--python-version"]
    command += [version, "--no-config", "--require-hashes", "-r", ROOT / "requirements" / "bench.txt"]
    timed(command, env=os.environ)


def main() -> None:
    lay_out()
    env = environment()
    os.environ.update({name: env[name] for name in ("SSL_CERT_FILE", "PIP_CERT") if name in env})
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = FOLDER / "speed.json"
    found = json.loads(results.read_text()) if results.exists() else {}
    with docker_daemon_left_as_found(), ExitStack() as stack:
        build_test_hosts("bare:bookworm", "bench:bookworm")
        recording.record(RECORDING, PYTHON)
        # "Loaded image: NAME". The Docker daemon can have images of other releases too.
        image = servers.docker("load", "--input", str(CACHE / "devpi.tar")).split()[-1]
        install_proxpi(image)
        stage = Stage(stack, image, env)
        for name in sys.argv[1:] or MEASUREMENTS:
            found |= MEASUREMENTS[name](stage)
            results.write_text(json.dumps(found, indent=2) + "\n")
    if all(name in found for name in DRAWN):
        draw(found, ROOT / "docs" / "speed.svg")
    print("\n".join(table_rows(found)))


if __name__ == "__main__":
    main()
