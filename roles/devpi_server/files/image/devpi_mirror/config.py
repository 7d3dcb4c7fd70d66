# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths, timeouts, limits and settings of the mirror, each defined once."""

from __future__ import annotations

import os
from pathlib import Path

# Paths. Tests set other folders.
BIN = Path(os.environ.get("DEVPI_MIRROR_BIN", "/opt/devpi/bin"))
# The folder of nginx.conf, supervisord.conf and maintenance.sh.
ETC = Path(os.environ.get("DEVPI_MIRROR_ETC", "/opt/devpi/etc"))
DATA = Path(os.environ.get("DEVPI_MIRROR_DATA", "/data"))
# The folder of files that end with the container.
RUN = Path(os.environ.get("DEVPI_MIRROR_RUN", "/tmp"))
# devpi's data directory, and the files in it.
SERVERDIR = DATA / "server"
FILES = SERVERDIR / "+files"
# Exists once the primary of this replica has lacked changes that the replica has.
AHEAD_OF_PRIMARY = SERVERDIR / ".ahead-of-primary"
# Describes the last promotion of this server.
PROMOTION = DATA / "promotion.json"
PAGES = DATA / "pages"
TEMPORARY = DATA / "tmp"
# The responses that nginx caches. Change the name in a release that must not serve the responses of earlier releases.
RESPONSES = DATA / "nginx" / "responses-5"
# Has the reason why the settings in the environment could not be applied to the public index.
SETTINGS_FAILED = DATA / "settings-failed"
# Requests a check of all files, even if none is due.
SCRUB_REQUESTED = DATA / "scrub-requested"
# The socket of devpi. A port could be reached from this container's network, or be taken by another process.
SOCKET = str(RUN / "devpi.sock")
# Mounted if systemd listens on the port and forwards connections to nginx's socket in this folder.
SOCKET_DIRECTORY = Path("/run/mirror")
# The host's folder of scheduled backups. Mounted if these are enabled.
BACKUPS = Path(os.environ.get("DEVPI_MIRROR_BACKUPS", "/backups"))
# Locked while devpi's data directory is copied or replaced.
DATA_LOCK = RUN / "data.lock"
# Mounted if the mirror serves over TLS. Its file has the certificate, its chain and the key. The port is that in the container.
TLS_DIRECTORY = Path("/run/mirror-tls")
TLS_FILE = TLS_DIRECTORY / "server.pem"
TLS_PORT = 3443
# Mounted if passwords are verified by an LDAP server. Only the container's user can read it.
LDAP_FILE = Path(os.environ.get("DEVPI_MIRROR_LDAP", "/run/mirror-ldap")) / "ldap.json"
# nginx's configuration, made from nginx.conf and the mirror indexes that nginx serves, and files that it includes.
NGINX_CONF = RUN / "nginx.conf"
ROUTES = DATA / "nginx" / "routes.json"
LISTEN_CONF = RUN / "listen.conf"
ALLOWED_HOSTS_CONF = RUN / "allowed-hosts.conf"
REPLICAS_CONF = RUN / "replicas.conf"
NGINX_PID = RUN / "nginx.pid"
# The port of the metrics in the container, nginx's configuration for them, and its log of requests.
METRICS_PORT = 3190
METRICS_CONF = RUN / "metrics.conf"
METRICS_LOG = DATA / "nginx" / "requests.log"
# Values that devpi writes. Their files are mapped into memory, and writing to them on a full disk would end devpi.
METRICS_VALUES = RUN / "metrics"
# Written when the image is built, and by no other program.
IMAGE_BUILT = BIN.parent / "pyvenv.cfg"

# The public index, which the role configures.
INDEX = "root/pypi"
# The type of a mirror index in devpi 6 and in devpi 7.
MIRROR_TYPES = ("mirror", "remote")

# Timeouts of requests to the upstream, in seconds: for a connection, for each part of a response, and for all of a page or of
# core metadata. pip gives up after 15 s without a byte.
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 14.0
TRANSFER_TIMEOUT = 60.0
# Timeouts of clients that wait for the mirror, in seconds: for a page that is not cached, and for the revalidation of a cached
# one.
PAGE_TIMEOUT = 14.0
REVALIDATION_TIMEOUT = 10.0
# For core metadata, for which the upstream may have to send a whole wheel.
METADATA_TIMEOUT = 60.0
# For the next byte of a file. The upstream's timeout, READ_TIMEOUT, is shorter.
BYTE_TIMEOUT = 60.0
# For the requested part of a file that is being downloaded, before the whole file is sent instead.
PART_TIMEOUT = 10.0
# Seconds after which an upstream that has a fallback counts as unreachable if no byte arrives. The fallback's page must arrive
# before pip gives up.
FALLBACK_READ_TIMEOUT = 9.0
# Seconds for which an upstream that has a fallback gets no requests after it was unreachable.
FALLBACK_PAUSE = 30.0

# Bytes of a page when it is expanded. The page of ddtrace, which lists 46,724 files, has 23 MB.
PAGE_LIMIT = 64_000_000
# Bytes of core metadata, which is held in memory.
METADATA_LIMIT = 16_000_000
# Bytes of a wheel's central directory. One that lists 200,000 files takes up to 100 MB of memory.
DIRECTORY_LIMIT = 10_000_000
# Bytes that must stay free on the disk for devpi's database and nginx's cache.
RESERVE = 64_000_000

# Simultaneous downloads that clients wait for, of which uv requests 50, and prefetched ones; and threads that get metadata.
DOWNLOADS = 50
PREFETCHED_DOWNLOADS = 2
METADATA_THREADS = 20
# Connections to each upstream for pages and listed metadata: one for each thread that requests these.
CONNECTIONS = 40
# Connections to each upstream for files and parts of files: one for each download and each metadata thread.
FILE_CONNECTIONS = DOWNLOADS + PREFETCHED_DOWNLOADS + METADATA_THREADS
# Simultaneous requests to devpi. A client that downloads a file occupies one of them.
THREADS = 100

# Seconds for which a replica waits for a change that its primary has made for a client, and the maximum before it tries again
# to replicate a file.
REPLICATION_WAIT = 10.0
REPLICATION_RETRY = 60

# Seconds until a project that the upstream does not have is requested again. Each of nginx's two caches stores the response
# for another second, so a new project is found after 10 s.
ABSENT_FRESHNESS = 8
# Seconds until a page is requested again after its upstream has failed, or has denied a file that the page lists.
FAILURE_FRESHNESS = 10
# Seconds for which core metadata is fresh, and then served stale while it is revalidated: an upstream can correct it.
METADATA_FRESHNESS = 86_400
METADATA_MAX_STALE = 31_536_000
# Seconds for which nginx caches that a file may be served under the policy of its index.
VISIBLE_FRESHNESS = 3600
# Seconds for which projects are reported that an upstream has removed.
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
