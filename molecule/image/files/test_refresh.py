# SPDX-License-Identifier: GPL-3.0-or-later
"""A new refresh value rebuilds the image while the mirror serves. If the build fails, the mirror uses the existing image.

Each test relies on those before it.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness import ON_HOST, on_host
from plays import succeed

VARIABLES = {
    "devpi_server_image_source": "build",
    "devpi_server_image": "{{ __devpi_server_default_image }}",
    "devpi_server_base_source": "registry",
    "devpi_server_base_image": "127.0.0.1:5000/base:test",
}
RUNNING = "docker inspect --format '{{.Id}} {{.Config.Image}}' devpi"
# Without those that the scenario has pushed to its registry.
IMAGES = "docker image ls --format '{{.Repository}}:{{.Tag}}' --filter label=devpi.mirror.role | grep ^devpi-mirror"
# Makes a package of the base outdated for apt.
OUTDATE_BASE = """set -e
docker build --quiet --pull --tag 127.0.0.1:5000/base:test - <<'EOF'
FROM 127.0.0.1:5000/base:test
RUN sed -i '/^Package: hostname$/,/^$/s/^Version: .*/Version: 0/' /var/lib/dpkg/status
EOF
docker push --quiet 127.0.0.1:5000/base:test
docker image rm 127.0.0.1:5000/base:test
"""
RECEIVED = "cat /sys/class/net/eth0/statistics/rx_bytes"
OFFLINE = (
    "iptables {0} OUTPUT --out-interface eth0 --jump REJECT; iptables {0} FORWARD --out-interface eth0 --jump REJECT"
)
# Requests a cached page until it is stopped, and prints the longest time between two responses.
PROBE = """
import http.client, os, time, urllib.request
longest, last = 0.0, time.monotonic()
while not os.path.exists("/run/probe-stop"):
    try:
        with urllib.request.build_opener().open("http://127.0.0.1:3141/root/pypi/+simple/attrs/", timeout=5) as answer:
            answer.read()
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    except (OSError, http.client.HTTPException):
        # An incomplete response is none: it ends with the container.
        pass
    time.sleep(0.02)
print(longest)
"""
# The password of an index. Proxies are arguments of the build, as the index is.
PASSWORD = "s3cret"
INDEX = f"https://ada:{PASSWORD}@packages.example.com/simple/"
# Prints the command lines of builds, and those with the password, of all processes until it is stopped.
SAMPLE = f"""
import json, os, pathlib, time
found = set()
while not os.path.exists("/run/sample-stop"):
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if path.parent.name != str(os.getpid()) and ("--build-arg" in line or "{PASSWORD}" in line):
            found.add(line)
    time.sleep(0.02)
print(json.dumps(sorted(found)))
"""


def play(refresh: str, *options: str, playbook: str = "devpi.mirror.site") -> str:
    """Run a playbook with a refresh value, and return its output."""
    outcome = succeed(playbook, *options, variables={**VARIABLES, "devpi_server_image_refresh": refresh})
    return " ".join(outcome.output.split())


@contextmanager
def probing() -> Iterator[None]:
    """Request a page all the while, and print the longest time that it was unavailable."""
    on_host("rm -f /run/probe-stop")
    with subprocess.Popen([*ON_HOST, "python3", "-c", PROBE], stdout=subprocess.PIPE, text=True) as probe:
        try:
            yield
        finally:
            on_host("touch /run/probe-stop")
            print(f"Cached pages were unavailable for {float(probe.communicate()[0]):.2f} s", flush=True)


@contextmanager
def sampling() -> Iterator[list[str]]:
    """Collect the command lines of builds, and those with the password. The list is complete at the end."""
    lines: list[str] = []
    on_host("rm -f /run/sample-stop")
    with subprocess.Popen([*ON_HOST, "python3", "-c", SAMPLE], stdout=subprocess.PIPE, text=True) as sample:
        try:
            yield lines
        finally:
            on_host("touch /run/sample-stop")
            lines += json.loads(sample.communicate()[0])


def test_check_mode_reports_a_rebuild() -> None:
    before = on_host(RUNNING), on_host(IMAGES)
    output = play("2026-10", "--check", "--diff")
    assert re.search(r"Would build the image devpi-mirror:[0-9a-f]+-2026-10\b", output)
    assert re.search(rf"-image={before[0].split()[1]} \+image=devpi-mirror:[0-9a-f]+-2026-10\b", output)
    assert "Would remove the images" in output
    assert (on_host(RUNNING), on_host(IMAGES)) == before


def test_a_new_value_replaces_the_image() -> None:
    on_host(OUTDATE_BASE)
    started, received = time.monotonic(), int(on_host(RECEIVED))
    with probing():
        play("2026-10")
    megabytes = (int(on_host(RECEIVED)) - received) / 1e6
    print(f"The play took {time.monotonic() - started:.0f} s, and the host received {megabytes:.0f} MB", flush=True)
    image = on_host(RUNNING).split()[1]
    assert image.endswith("-2026-10")
    # The base was pulled for the build alone.
    assert on_host(IMAGES).split() == [image]
    assert on_host("docker exec devpi dpkg-query --show --showformat '${Version}' hostname") != "0"


def test_the_same_value_changes_nothing() -> None:
    assert " changed=0 " in play("2026-10")


def test_doctor_reports_the_age() -> None:
    assert ", 0 days old (" in play("2026-10", playbook="devpi.mirror.doctor")


def test_a_rebuild_that_fails_leaves_the_mirror_running_and_shows_no_password() -> None:
    before = on_host(RUNNING), on_host(IMAGES)
    on_host(OFFLINE.format("--insert"))
    started = time.monotonic()
    try:
        with probing(), sampling() as lines:
            output = play("2026-11", "--extra-vars", json.dumps({"devpi_server_build_index_url": INDEX}))
    finally:
        on_host(OFFLINE.format("--delete"))
    print(f"The play took {time.monotonic() - started:.0f} s offline", flush=True)
    assert "WARNING: Could not build the image" in output
    assert f"The mirror runs the image {before[0].split()[1]}" in output
    assert (on_host(RUNNING), on_host(IMAGES)) == before
    assert [line for line in lines if " build " in line and "--build-arg=PIP_INDEX_URL" in line]
    assert PASSWORD not in output
    assert [line for line in lines if PASSWORD in line] == []
