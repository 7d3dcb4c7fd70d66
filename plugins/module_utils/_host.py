# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather the state of a host: init system, listeners, files, free disk space.

Private to the collection. Paths of the system are relative to ``root``, so that a test can create the files of a host.
"""

from __future__ import annotations

import glob
import grp
import hashlib
import os
import pwd
import re
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Iterator, Sequence

from ansible_collections.devpi.mirror.plugins.module_utils import _command

# Seconds.
SYSTEMCTL_TIMEOUT = 30.0
# The state of a socket that listens, in /proc/net/tcp.
LISTEN = "0A"
# The addresses of "localhost".
LOOPBACK = ("127.0.0.1", "::1")
# The names of init systems' processes, by the name of the init system if the collection supports it, else by their own.
INIT_PROCESSES = {"systemd": "systemd", "runit": "runit", "runit-init": "runit", "openrc-init": "openrc"}
INIT_PROCESSES.update({name: name for name in ("dinit", "finit", "procd", "s6-svscan", "shepherd")})
# The scripts of mirrors. A user's own script can match the pattern, but does not have the label of the role's containers.
SCRIPTS = "etc/*-mirror.sh"
SCRIPT_LABEL = "devpi.mirror.role=devpi_server"
SCRIPT_IMAGE = re.compile(r"^image='?([^'\s]+)", re.MULTILINE)


@dataclass(frozen=True)
class Listener:
    """A process that listens on a port of ``address``, an IP address.

    ``uid`` is the UID of the user who created the socket. ``pid`` and ``program`` are None if this user may not read them.
    """

    address: str
    uid: int
    pid: int | None
    program: str | None


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _link(root: str, path: str) -> str:
    try:
        return os.readlink(os.path.join(root, path))
    except OSError:
        return ""


def init_system(root: str = "/", system: str = "Linux") -> str:
    """Return the name of the running init system, as in ``devpi_server_init``. It is ``none`` if PID 1 is not an init system.

    Installed init systems do not count: a container made from an image with systemd in it usually does not run it. An init
    system that the collection does not support is named after its process.
    """
    if system == "Darwin":
        return "launchd"
    name = _text(root, "proc/1/comm").strip()
    # Windows Subsystem for Linux runs /init, which is not an init system.
    if name != "init" or _link(root, "proc/1/exe") == "/init":
        return INIT_PROCESSES.get(name, "none")

    def has(*paths: str) -> bool:
        return all(os.path.exists(os.path.join(root, path)) for path in paths)

    if has("run/systemd/system"):
        return "systemd"
    if has("run/openrc"):
        return "openrc"
    if has("sbin/initctl", "etc/init/rc.conf"):
        return "upstart"
    return "sysvinit" if has("etc/inittab") else name


def _sockets(root: str, port: int) -> Iterator[tuple[str, int, str]]:
    """Yield address, UID and inode of each socket that listens on ``port``, from /proc/net/tcp (proc(5))."""
    for table in ("proc/net/tcp", "proc/net/tcp6"):
        for line in _text(root, table).splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10 or fields[3] != LISTEN:
                continue
            address, _colon, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _address(address), int(fields[7]), fields[9]


def _address(text: str) -> str:
    # Each group of four bytes is a number in the byte order of the host. All supported hosts are little-endian.
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    return str(ip_address(b"".join(words)))


def _overlap(address: str, wanted: str) -> bool:
    first, second = ip_address(address), ip_address(wanted)
    mapped = getattr(first, "ipv4_mapped", None)
    first = mapped or first
    if str(first) == "::":
        return True
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def _process(inode: str, root: str) -> tuple[int | None, str | None]:
    """Return PID and name of a process that has a socket open, None if this user may not read them."""
    processes = os.path.join(root, "proc")
    for pid in filter(str.isdigit, os.listdir(processes)):
        descriptors = os.path.join(processes, pid, "fd")
        try:
            names = os.listdir(descriptors)
        except OSError:
            continue
        if any(_link(descriptors, name) == f"socket:[{inode}]" for name in names):
            return int(pid), _text(root, f"proc/{pid}/comm").strip() or None
    return None, None


def listener(port: int, addresses: Sequence[str], uid: int | None = None, root: str = "/") -> Listener | None:
    """Return a listener on ``port`` that prevents others from listening on one of ``addresses``, or None.

    With ``uid``, the sockets of that user are ignored.
    """
    for address, owner, inode in _sockets(root, port):
        if owner != uid and any(_overlap(address, wanted) for wanted in addresses):
            return Listener(address, owner, *_process(inode, root))
    return None


def file_contents(patterns: list[str]) -> dict[str, str]:
    """Return the contents of files by path, without those that do not exist. The paths can be glob patterns."""
    return {path: _text("/", path) for path in existing_paths(patterns) if os.path.isfile(path)}


def file_checksums(paths: list[str]) -> dict[str, str]:
    """Return the SHA-256 of those of the files that exist, by path."""
    found = {}
    for path in filter(os.path.isfile, paths):
        with open(path, "rb") as stream:
            found[path] = hashlib.sha256(stream.read()).hexdigest()
    return found


def existing_paths(patterns: list[str]) -> list[str]:
    """Return those of the paths that exist. They can be glob patterns. A dangling symbolic link exists too."""
    return sorted({path for pattern in patterns for path in glob.glob(pattern)})


def existing_users(names: list[str]) -> list[str]:
    """Return those of the users that exist, also in directories such as LDAP."""
    return [name for name in names if find_account(name) is not None]


def find_account(name: str) -> pwd.struct_passwd | None:
    """Return the account of that name, None if it does not exist."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def group_members(name: str) -> list[str]:
    """Return the users whose additional groups include the group, none if it does not exist."""
    try:
        return grp.getgrnam(name).gr_mem
    except KeyError:
        return []


def running_units(names: list[str]) -> list[str]:
    """Return those of the systemd units that are enabled and active."""
    if not names:
        return []
    command = ["systemctl", "show", "--property=Id,ActiveState,UnitFileState", *names]
    try:
        _code, out, _err = _command.execute(command, dict(os.environ), SYSTEMCTL_TIMEOUT)
    except subprocess.TimeoutExpired:
        return []
    # One paragraph per unit.
    units = (dict(line.split("=", 1) for line in text.splitlines()) for text in out.split("\n\n"))
    return [
        unit["Id"]
        for unit in units
        if unit.get("UnitFileState") == "enabled" and unit.get("ActiveState") in ("active", "activating")
    ]


def mirrors(root: str = "/") -> list[dict[str, str]]:
    """Return the ``name`` and the ``image`` of each mirror on this host, from the scripts of the role devpi_server."""
    found = []
    for path in existing_paths([os.path.join(root, SCRIPTS)]):
        text = _text(root, path)
        if SCRIPT_LABEL in text:
            image = SCRIPT_IMAGE.search(text)
            name = os.path.basename(path)[: -len("-mirror.sh")]
            found.append({"name": name, "image": image.group(1) if image else ""})
    return found


def memory(root: str = "/") -> int:
    """Return the bytes of the host's memory (MemTotal in proc(5)), 0 if they are unknown, as on macOS."""
    found = re.search(r"^MemTotal: *(\d+) kB$", _text(root, "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def disk_free(path: str) -> int:
    """Return the free bytes of the file system that has ``path``, or would have it once it is created."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
