# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host looks like to the roles: its init system, who listens on a port, how much room there is.

Private to the collection. Everything is read from below ``root``, so that a test can lay out a host of its own.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

LISTEN = "0A"
# The addresses of "localhost".
LOOPBACK = ("127.0.0.1", "::1")
# By the name of their process: what runs as PID 1 and is an init system of its own kind.
OTHER_INITS = ("dinit", "finit", "procd", "s6-svscan", "shepherd")


@dataclass(frozen=True)
class Listener:
    """A program that listens on a port of ``address``, an IP address.

    ``uid`` is the user who created the socket. ``pid`` and ``program`` are None where the kernel does not tell.
    """

    address: str
    uid: int
    pid: Optional[int]
    program: Optional[str]


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
    """Name the init system that runs, as the value of ``devpi_server_init``. ``none`` is for a PID 1 that is none.

    What is installed does not count: a container made from an image with systemd in it usually does not run it. An init
    system that the collection has no unit for is named after its process.
    """
    if system == "Darwin":
        return "launchd"

    def has(path: str) -> bool:
        return os.path.exists(os.path.join(root, path))

    name = _text(root, "proc/1/comm").strip()
    if name == "systemd":
        return "systemd"
    if name in ("runit", "runit-init"):
        return "runit"
    if name == "openrc-init":
        return "openrc"
    if name in OTHER_INITS:
        return name
    if name != "init" or _link(root, "proc/1/exe") == "/init":
        # /init is what Windows' subsystem for Linux runs, and no init system.
        return "none"
    if has("run/systemd/system"):
        return "systemd"
    if has("run/openrc"):
        return "openrc"
    if has("sbin/initctl") and has("etc/init/rc.conf"):
        return "upstart"
    return "sysvinit" if has("etc/inittab") else name


def _sockets(root: str, port: int) -> Iterator[Tuple[str, int, str]]:
    """Yield address, UID and inode of each socket that listens on ``port``, as /proc/net/tcp has them (proc(5))."""
    for table in ("proc/net/tcp", "proc/net/tcp6"):
        for line in _text(root, table).splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10 or fields[3] != LISTEN:
                continue
            address, _colon, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _address(address), int(fields[7]), fields[9]


def _address(text: str) -> str:
    # Each group of four bytes is written as a number in the byte order of the machine; all that run this are little-endian.
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    return str(ip_address(b"".join(words)))


def _overlap(one: str, other: str) -> bool:
    first, second = ip_address(one), ip_address(other)
    mapped = getattr(first, "ipv4_mapped", None)
    first = mapped or first
    if str(first) == "::":
        return True
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def _process(inode: str, root: str) -> Tuple[Optional[int], Optional[str]]:
    """Return PID and name of a process that has a socket open, None for what the kernel does not tell."""
    processes = os.path.join(root, "proc")
    for pid in filter(str.isdigit, os.listdir(processes)):
        descriptors = os.path.join(processes, pid, "fd")
        try:
            names = os.listdir(descriptors)
        except OSError:
            continue
        if any(_link(descriptors, name) == "socket:[%s]" % inode for name in names):
            return int(pid), _text(root, "proc/%s/comm" % pid).strip() or None
    return None, None


def listener(port: int, addresses: Sequence[str], uid: Optional[int] = None, root: str = "/") -> Optional[Listener]:
    """Return who listens on ``port`` in a way that keeps others from one of ``addresses``, or None.

    With ``uid``, the sockets of that user do not count.
    """
    for address, owner, inode in _sockets(root, port):
        if owner != uid and any(_overlap(address, wanted) for wanted in addresses):
            return Listener(address, owner, *_process(inode, root))
    return None


def file_contents(patterns: List[str]) -> Dict[str, str]:
    """Return what files say, by path, without those that do not exist. The paths can be patterns of glob."""
    return {path: _text("/", path) for path in existing_paths(patterns) if os.path.isfile(path)}


def file_stats(paths: List[str]) -> Dict[str, Dict[str, Any]]:
    """Return ``mode`` ("0644"), ``owner`` (a number) and ``sha256`` of files, by path, without those that do not exist."""
    found: Dict[str, Dict[str, Any]] = {}
    for path in paths:
        if os.path.isfile(path):
            status = os.lstat(path)
            with open(path, "rb") as stream:
                digest = hashlib.sha256(stream.read()).hexdigest()
            found[path] = {"mode": "%04o" % stat.S_IMODE(status.st_mode), "owner": status.st_uid, "sha256": digest}
    return found


def existing_paths(patterns: List[str]) -> List[str]:
    """Return the paths that exist among those given, which can be patterns of glob. A link that leads nowhere exists too."""
    return sorted({path for pattern in patterns for path in glob.glob(pattern)})


def disk_free(path: str) -> int:
    """Return the bytes that are free where ``path`` is, or would be once it is made."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
