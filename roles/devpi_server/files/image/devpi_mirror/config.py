"""Paths, limits and settings of the mirror, each defined once."""

from __future__ import annotations

import os
from pathlib import Path

BIN = Path("/opt/devpi/bin")
# Where nginx.conf, supervisord.conf and maintenance.sh are.
ETC = Path("/opt/devpi/etc")
DATA = Path(os.environ.get("DEVPI_MIRROR_DATA", "/data"))
# devpi's data directory, and its files.
STORE = DATA / "server"
FILES = STORE / "+files"
PAGES = DATA / "pages"
TEMPORARY = DATA / "tmp"
# Where nginx caches responses. Change the name in a release that must not serve the responses of earlier ones.
RESPONSES = DATA / "nginx" / "responses-4"
# Why the public index has not the settings that the environment has.
SETTINGS_FAILED = DATA / "settings-failed"
# Marks that all files are to be checked, whether or not that is due.
SCRUB_REQUESTED = DATA / "scrub-requested"
# On which devpi listens: no other process in this container's network can connect to it, or take its place.
SOCKET = "/tmp/devpi.sock"
# Mounted where systemd listens on the port and forwards connections to nginx's socket in it.
SOCKET_DIRECTORY = Path("/run/mirror")
# What nginx.conf includes.
LISTEN_CONF = Path("/tmp/listen.conf")
ALLOWED_HOSTS_CONF = Path("/tmp/allowed-hosts.conf")
UPSTREAM_CONF = Path("/tmp/upstream.conf")
NGINX_PID = Path("/tmp/nginx.pid")

# The public index, which the role configures.
INDEX = "root/pypi"
# What devpi 6 and 7 call a mirror index.
MIRROR_TYPES = ("mirror", "remote")

# Bytes of a page when it is expanded. That of ddtrace, which lists 46,724 files, has 23 MB.
PAGE_LIMIT = 64_000_000
# Bytes of core metadata, which the mirror has in memory.
METADATA_LIMIT = 16_000_000
# Bytes of a wheel's central directory. That of 200,000 files takes up to 100 MB of memory.
DIRECTORY_LIMIT = 10_000_000
# Bytes that must stay free on the disk, so that devpi's database and nginx's cache have room.
RESERVE = 64_000_000

# Seconds that a connection to the upstream may take, and each part of a response. pip gives up after 15 s without a byte.
CONNECT_LIMIT = 5.0
READ_LIMIT = 14.0
# Connections to each upstream for pages and listed metadata, which are used again: as many as threads that request these.
CONNECTIONS = 40
# Downloads at a time that clients wait for, of which uv requests 50, and that are prefetched; and threads that get metadata.
DOWNLOADS = 50
PREFETCHED_DOWNLOADS = 2
METADATA_THREADS = 20
# Connections to each upstream for files and parts of them: one for each of these.
FILE_CONNECTIONS = DOWNLOADS + PREFETCHED_DOWNLOADS + METADATA_THREADS
# Seconds until a project that the upstream does not have is requested again. Each of nginx's two caches has the answer for
# another second, so a new project is found after 10.
ABSENT_FRESHNESS = 8
# Seconds until a page whose upstream fails is requested again.
FAILURE_FRESHNESS = 10
# Requests that devpi handles at a time. A client that downloads a file occupies one of them.
THREADS = 100
# Seconds for which projects are listed that an upstream has removed.
REMOVED_LISTED = 86_400


def seconds(name: str, default: int) -> int:
    """Return a setting of the environment, in seconds."""
    return int(os.environ.get(f"DEVPI_MIRROR_{name}") or default)


def freshness() -> int:
    """Return the seconds for which a page is fresh."""
    return seconds("FRESHNESS", 300)


def max_stale() -> int:
    """Return the seconds for which a page that is no longer fresh is served without waiting for the upstream."""
    return seconds("MAX_STALE", 3600)
