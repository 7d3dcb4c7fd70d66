# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.devpi.mirror.plugins.module_utils import _host
from ansible_collections.devpi.mirror.plugins.module_utils._host import Listener


@pytest.fixture
def root(tmp_path):
    """Return a function that creates the files of a host, by path, with symbolic links as ``-> target``."""

    def create(files):
        for path, text in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                target.symlink_to(text[3:])
            else:
                target.write_text(text)
        return str(tmp_path)

    return create


@pytest.mark.parametrize(
    ("files", "init"),
    [
        ({"proc/1/comm": "systemd\n"}, "systemd"),
        ({"proc/1/comm": "init\n", "run/systemd/system/x": ""}, "systemd"),
        ({"proc/1/comm": "init\n", "run/openrc/softlevel": "", "etc/inittab": ""}, "openrc"),
        ({"proc/1/comm": "openrc-init\n"}, "openrc"),
        ({"proc/1/comm": "init\n", "sbin/initctl": "", "etc/init/rc.conf": ""}, "upstart"),
        ({"proc/1/comm": "init\n", "etc/inittab": ""}, "sysvinit"),
        ({"proc/1/comm": "runit\n"}, "runit"),
        ({"proc/1/comm": "s6-svscan\n"}, "s6-svscan"),
        ({"proc/1/comm": "init\n"}, "init"),
        ({"proc/1/comm": "sleep\n", "etc/inittab": "", "run/openrc/softlevel": ""}, "none"),
        ({"proc/1/comm": "bash\n", "etc/init.d/rc": ""}, "none"),
        ({"proc/1/comm": "init\n", "proc/1/exe": "-> /init", "etc/inittab": ""}, "none"),
        ({}, "none"),
    ],
)
def test_running_init_system(root, files, init):
    assert _host.init_system(root(files)) == init


def test_init_system_of_macos(root):
    assert _host.init_system(root({}), "Darwin") == "launchd"


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: {0} 00000000:0000 {1} 00000000:00000000 00:00000000 00000000  {3}        0 {2} 1 0000 100 0 0 10 0\n"


def sockets(address, state="0A", inode="4242", uid="0"):
    return HEADER + LINE.format(address, state, inode, uid)


@pytest.mark.parametrize(
    ("table", "address", "wanted", "found"),
    [
        ("tcp", "0100007F:0C45", "127.0.0.1", True),
        ("tcp", "00000000:0C45", "127.0.0.1", True),
        ("tcp", "0100007F:0C45", "0.0.0.0", True),
        ("tcp", "0100007F:0C45", "192.0.2.1", False),
        ("tcp", "0100007F:0C46", "127.0.0.1", False),
        ("tcp6", "00000000000000000000000000000000:0C45", "127.0.0.1", True),
        ("tcp6", "00000000000000000000000001000000:0C45", "127.0.0.1", False),
        ("tcp6", "00000000000000000000000001000000:0C45", "::1", True),
        ("tcp6", "0000000000000000FFFF00000100007F:0C45", "127.0.0.1", True),
    ],
)
def test_listeners(root, table, address, wanted, found):
    host = root({"proc/net/" + table: sockets(address), "proc/77/fd/3": "-> socket:[4242]", "proc/77/comm": "nginx\n"})
    listener = _host.listener(3141, [wanted], root=host)
    assert (listener is not None) == found
    if listener is not None:
        assert (listener.uid, listener.pid, listener.program) == (0, 77, "nginx")


def test_other_user_listens_on_the_other_loopback_address(root):
    tables = {
        "proc/net/tcp": sockets("0100007F:0C45"),
        "proc/net/tcp6": sockets("00000000000000000000000001000000:0C45", inode="77", uid="1000"),
    }
    assert _host.listener(3141, _host.LOOPBACK, uid=0, root=root(tables)) == Listener("::1", 1000, None, None)


def test_connection_is_not_a_listener(root):
    host = root({"proc/net/tcp": sockets("0100007F:0C45", state="01")})
    assert _host.listener(3141, ["127.0.0.1"], root=host) is None


def test_process_of_the_listener_is_unknown(root):
    host = root({"proc/net/tcp": sockets("0100007F:0C45"), "proc/77/comm": "nginx\n"})
    assert _host.listener(3141, ["127.0.0.1"], root=host) == Listener("127.0.0.1", 0, None, None)


def test_listener_of_this_process():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        found = _host.listener(port, ["127.0.0.1"])
        assert found is not None
        assert (found.address, found.uid, found.pid) == ("127.0.0.1", os.geteuid(), os.getpid())
        assert _host.listener(port, _host.LOOPBACK, uid=os.geteuid()) is None
        assert _host.listener(port, _host.LOOPBACK, uid=os.geteuid() + 1) == found


def test_existing_paths_and_patterns(tmp_path):
    (tmp_path / "S01devpi").touch()
    (tmp_path / "K01devpi").symlink_to("nowhere")
    (tmp_path / "S01docker").touch()
    wanted = [str(tmp_path / "[SK]01devpi"), str(tmp_path / "S01devpi"), str(tmp_path / "missing")]
    assert _host.existing_paths(wanted) == [str(tmp_path / "K01devpi"), str(tmp_path / "S01devpi")]


def test_mirrors_of_a_host(root):
    label = "--label devpi.mirror.role=devpi_server"
    scripts = {
        "etc/devpi-mirror.sh": f"name=devpi\nimage=devpi-mirror:0f3c\nnetwork=devpi-mirror\n{label}\n",
        "etc/b-mirror.sh": f"image='example.com/devpi:1'\n{label}\n",
        "etc/old-mirror.sh": label,
        "etc/debian-mirror.sh": "image=debian\nrsync --archive\n",
    }
    assert _host.mirrors(root(scripts)) == [
        {"name": "b", "image": "example.com/devpi:1"},
        {"name": "devpi", "image": "devpi-mirror:0f3c"},
        {"name": "old", "image": ""},
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [({"proc/meminfo": "MemTotal:       16122256 kB\nMemFree:        1 kB\n"}, 16122256 * 1024), ({}, 0)],
    ids=["Linux", "macOS"],
)
def test_memory_of_the_host(root, files, expected):
    assert _host.memory(root(files)) == expected


def test_free_space_of_a_path_that_does_not_exist(tmp_path):
    assert _host.disk_free(str(tmp_path / "a" / "b" / "c")) > 0
