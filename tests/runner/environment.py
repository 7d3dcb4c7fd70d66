# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the tests run: paths, the laid-out copy of the collection, and the environment of each step."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
LOGS = CACHE / "logs"
COLLECTIONS = CACHE / "test"
TREE = COLLECTIONS / "ansible_collections" / "devpi" / "mirror"
BIN = ROOT / ".venv" / "test" / "bin"
# The part of Ansible that modules may import. It supports older Pythons than the rest of Ansible.
MODULE_LIBRARY = CACHE / "module_library"
HOME = CACHE / "home"
DIST = CACHE / "dist"
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
# The Python versions that modules support.
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
# ansible-test looks for a script of this name before it downloads one; the name depends on its release.
GET_PIP = ("get_pip_21_3_1.py", "get_pip_23_1_2.py", "get_pip_24_2.py", "get_pip_25_2.py")
# Ansible's sessions on a test host, whose sshd does not listen: Docker starts it for the first of many tasks. If it started a
# process for each task, this would take a quarter of the task's processor time.
SSH_OPTIONS = (
    "ControlMaster=auto",
    "ControlPersist=60",
    "LogLevel=ERROR",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "ProxyCommand=docker exec --interactive %h start-session",
)
INHERITED = {"LANG", "TERM", "CI", "DOCKER_HOST", "http_proxy", "https_proxy", "no_proxy"}


@cache
def find_pythons() -> dict[str, Path]:
    """Return the ``bin`` folder of each supported Python that works on this machine, by version."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in PYTHONS:
        name = f"python{version}"
        on_path = shutil.which(name)
        candidates = [*versions.glob(f"{version}.*/bin/{name}"), *([Path(on_path)] if on_path else [])]
        for candidate in candidates:
            if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
                found[version] = candidate.parent
                break
    return found


def environment() -> dict[str, str]:
    """Return the environment of the steps, which has its own home and none of the user's settings."""
    bundle = os.environ.get("SSL_CERT_FILE") or next((path for path in CA_BUNDLES if Path(path).exists()), "")
    env = {name: value for name, value in os.environ.items() if name in INHERITED or name.lower() in INHERITED}
    pythons = find_pythons().values()
    system = [path for path in os.environ["PATH"].split(os.pathsep) if "pyenv" not in path]
    env.update(
        PATH=os.pathsep.join([str(BIN), *map(str, pythons), *system, "/usr/sbin"]),
        HOME=str(HOME),
        ANSIBLE_HOME=str(CACHE / "ansible"),
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_CALLBACK_RESULT_FORMAT="yaml",
        ANSIBLE_CALLBACKS_ENABLED="ansible.posix.profile_tasks",
        ANSIBLE_DISPLAY_SKIPPED_HOSTS="false",
        ANSIBLE_SSH_ARGS=shlex.join(["-F", "none", *(part for option in SSH_OPTIONS for part in ("-o", option))]),
        # A path that is not too long for a socket.
        ANSIBLE_SSH_CONTROL_PATH="%(directory)s/%%h-%%r",
        ANSIBLE_SSH_TRANSFER_METHOD="piped",
        PY_COLORS="0",
        NO_COLOR="1",
        # Compile each module once, outside of the collection.
        PYTHONPYCACHEPREFIX=str(CACHE / "bytecode"),
        DEVPI_MIRROR_TEST_CACHE=str(CACHE),
        # Volumes for a test host, in one string.
        DEVPI_MIRROR_TEST_PYTHONS=" ".join(
            f"{folder}:/opt/pythons/{folder.name}:ro"
            for folder in (path.parent for path in pythons)
            if folder not in (Path("/usr"), Path("/usr/local"))
        ),
    )
    if bundle:
        env.update(SSL_CERT_FILE=bundle, REQUESTS_CA_BUNDLE=bundle, PIP_CERT=bundle)
    scripts = HOME / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    for name in GET_PIP:
        shutil.copy(ROOT / "tests" / "ansible_test" / "get_pip.py", scripts / name)
    settings = HOME / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("[global]\n" + (f"cert = {bundle}\n" if bundle else ""))
    return env


def lay_out() -> None:
    """Copy the collection's files to the path that Ansible expects."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    list_files = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(list_files, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    # ansible-test lists the files of the git repository around it, which must not be the checkout.
    subprocess.run(["git", "init", "--quiet"], cwd=TREE, check=True)
    subprocess.run(["git", "add", "--all"], cwd=TREE, check=True)
    lay_out_module_library()


def lay_out_module_library() -> None:
    """Provide ``ansible.module_utils`` without the rest of Ansible, as modules have it on a host."""
    # Benchmarks run in an environment without Ansible.
    (installed,) = BIN.parent.glob("lib/python*/site-packages/ansible")
    package = MODULE_LIBRARY / "ansible"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("release.py", "module_utils"):
        (package / name).symlink_to(installed / name)


def archive() -> Path:
    """Return the path of the archive that ``ansible-galaxy collection build`` creates."""
    fields = dict(re.findall(r"^(namespace|name|version): (\S+)$", (ROOT / "galaxy.yml").read_text(), re.MULTILINE))
    return DIST / f"{fields['namespace']}-{fields['name']}-{fields['version']}.tar.gz"
