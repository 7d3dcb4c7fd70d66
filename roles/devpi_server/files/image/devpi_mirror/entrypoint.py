# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare the data directory on the volume, and become the supervisor.

The first start creates devpi's data directory with a random secret and a random root password. Changed settings of the public
index are applied before nginx starts, so clients never reach a devpi with outdated settings.

The settings are environment variables: DEVPISERVER_* are devpi's own, DEVPI_MIRROR_* are the collection's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from supervisor import supervisord  # type: ignore[import-not-found, import-untyped, unused-ignore]

from . import nginx, role_change, tls
from .compat import MIRROR_TYPE, default_mirror_url, renamed
from .config import (
    ALLOWED_HOSTS_CONF,
    BIN,
    DATA,
    ETC,
    INDEX,
    METRICS_CONF,
    METRICS_LOG,
    METRICS_VALUES,
    REPLICAS_CONF,
    RESPONSES,
    ROUTES,
    SERVERDIR,
    SETTINGS_FAILED,
    SOCKET,
    TEMPORARY,
    THREADS,
)
from .credentials import split_credentials
from .devpi_api import UnavailableError, send
from .proxies import entries_of
from .secret_files import create_random, write_secret
from .store.errors import DataError

SERVER = [str(BIN / "python"), "-m", "devpi_mirror.server"]
START_TIMEOUT = 120.0
# What nginx logs for the metrics.
METRICS_FORMAT = f"""\
log_format metrics '$sent_http_x_cached $status $bytes_sent';
access_log {METRICS_LOG} metrics buffer=32k flush=1s;
"""
# The options of devpi-init. It refuses others.
INIT_OPTIONS = ("DEVPISERVER_SERVERDIR", "DEVPISERVER_ROLE", "DEVPISERVER_PRIMARY_URL")


def set_default_options(environ: MutableMapping[str, str]) -> None:
    """Set the collection's defaults of devpi's options. Options that the operator has set take precedence."""
    # The names of options differ between releases of devpi.
    chosen = {name: environ.pop(name) for name in list(environ) if name.startswith("DEVPISERVER_")}
    environ.update(renamed(chosen))
    own: dict[str, str] = {}
    # Stretching the secret takes 5 s and half a gigabyte at each start. A random secret needs none.
    own["DEVPISERVER_ARGON2_TIME_COST"] = "1"
    own["DEVPISERVER_ARGON2_MEMORY_COST"] = "8192"
    own["DEVPISERVER_ARGON2_PARALLELISM"] = "1"
    own["DEVPISERVER_KEYFS_CACHE_SIZE"] = "10"
    own["DEVPISERVER_THREADS"] = str(THREADS)
    # Connections from nginx, some of which are idle.
    own["DEVPISERVER_CONNECTION_LIMIT"] = str(4 * THREADS)
    own["DEVPISERVER_ENABLE_CORE_METADATA"] = "true"
    own["DEVPISERVER_RESTRICT_MODIFY"] = "root"
    # Each server downloads and caches the files of mirror indexes itself.
    own["DEVPISERVER_FILE_REPLICATION_SKIP_INDEXES"] = MIRROR_TYPE
    for name, value in renamed(own).items():
        environ.setdefault(name, value)
    environ["DEVPISERVER_SERVERDIR"] = str(SERVERDIR)
    environ["DEVPISERVER_SECRETFILE"] = str(DATA / "secret")
    # Not a port, which other processes in this container's network could connect to, or listen on while devpi restarts.
    environ["DEVPISERVER_UNIX_SOCKET"] = SOCKET


def limit_no_proxy(environ: MutableMapping[str, str]) -> None:
    """Remove entries from NO_PROXY on which httpx fails, as devpi creates an HTTP client for each private index.

    The complete value is preserved for the package's own requests, see proxies.py.
    """
    for name in ("NO_PROXY", "no_proxy"):
        if name in environ:
            environ["DEVPI_MIRROR_NO_PROXY"] = environ[name]
            environ[name] = ",".join(entry for entry in entries_of(environ[name]) if not set("[/]") & set(entry))


def is_replica(environ: Mapping[str, str]) -> bool:
    return environ.get("DEVPISERVER_ROLE") == "replica"


def prepare_data(environ: MutableMapping[str, str]) -> None:
    """Create the secret, the root password and devpi's data directory, unless they exist.

    A replica has the secret of its primary, which is removed from the environment.
    """
    for folder in (TEMPORARY, DATA / "nginx" / "tmp", RESPONSES):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = environ.pop("DEVPI_MIRROR_SECRET", "")
    if secret:
        write_secret(DATA / "secret", secret)
    create_random(DATA / "secret", 64)
    # A replica has the users of its primary.
    password = "" if is_replica(environ) else create_random(DATA / "root-password", 24)
    if (SERVERDIR / ".nodeinfo").exists():
        return
    # The password is in the environment, as all users of the machine can list command lines.
    init = {
        name: value for name, value in environ.items() if not name.startswith("DEVPISERVER_") or name in INIT_OPTIONS
    }
    subprocess.run([BIN / "devpi-init"], env={**init, "DEVPISERVER_ROOT_PASSWD": password}, check=True)


def remove_old_responses() -> None:
    """Remove the responses that earlier releases cached."""
    for path in RESPONSES.parent.iterdir():
        if path.is_dir() and path.name not in ("tmp", RESPONSES.name):
            # Folders that can't be removed are not served either.
            shutil.rmtree(path, ignore_errors=True)


def wanted_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the public index, with the names of devpi 6. An empty URL stands for devpi's default."""
    upstream = split_credentials(environ.get("DEVPI_MIRROR_UPSTREAM_URL", ""))
    return {"mirror_no_project_list": True, "mirror_url": upstream.url}


def await_server(process: subprocess.Popen[bytes]) -> None:
    """Wait until the server responds. Raises RuntimeError if it ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            send("GET", "/+api", limit=30)
        except UnavailableError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("devpi-server did not start; its own messages are above")


def apply_settings(environ: Mapping[str, str]) -> None:
    """Apply the settings of the public index, if they have changed since they were last applied. A replica receives them."""
    if is_replica(environ):
        return
    settings = wanted_settings(environ)
    marker = DATA / "settings-applied"
    stamp = hashlib.sha256(json.dumps(renamed(settings), sort_keys=True).encode()).hexdigest()
    if marker.exists() and marker.read_text() == stamp:
        return
    process = subprocess.Popen(SERVER, env=environ)
    try:
        await_server(process)
        password = (DATA / "root-password").read_text()
        token = send("POST", "/+login", {"user": "root", "password": password})["result"]["password"]
        auth = base64.b64encode(f"root:{token}".encode()).decode("ascii")
        settings["mirror_url"] = settings["mirror_url"] or default_mirror_url()
        send("PATCH", f"/{INDEX}", [f"{name}={value}" for name, value in renamed(settings).items()], auth)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    marker.write_text(stamp)


def configure_nginx(environ: Mapping[str, str]) -> None:
    """Write nginx's configuration, with its sockets, the allowed host names, the replicas and the mirror indexes."""
    tls.write_listeners()
    replicas = [
        text for text in environ.get("DEVPI_MIRROR_REPLICAS", "").split() if re.fullmatch("[0-9a-fA-F.:/]+", text)
    ]
    REPLICAS_CONF.write_text("".join(f"allow {address};\n" for address in replicas) + "deny all;\n")
    names = re.findall(r"[a-z0-9._-]+", environ.get("DEVPI_MIRROR_ALLOWED_HOSTS", "").lower())
    ALLOWED_HOSTS_CONF.write_text(
        # The escaped backslash prevents that a name is read as a keyword of the map.
        "".join(f'"\\\\{name}" "";\n' for name in sorted(set(names) - {"localhost"}))
    )
    nginx.configure(nginx.stored_routes())


def configure_metrics(environ: MutableMapping[str, str]) -> None:
    """Make nginx, devpi and the supervisor provide metrics if they are enabled."""
    # supervisord.conf requires a value.
    environ.setdefault("DEVPI_MIRROR_METRICS", "false")
    METRICS_LOG.unlink(missing_ok=True)
    METRICS_VALUES.mkdir(mode=0o700, exist_ok=True)
    METRICS_CONF.write_text(METRICS_FORMAT if environ["DEVPI_MIRROR_METRICS"] == "true" else "")


class Supervisor(supervisord.Supervisor):  # type: ignore[misc]
    """A supervisor that starts its programs at once, and stops them without a second's pause between two."""

    def runforever(self) -> None:
        poller = self.options.poller
        poll = poller.poll
        poller.poll = lambda timeout: poll(timeout if self.options.mood > 0 else 0.05)
        for group in sorted(self.process_groups.values()):
            group.transition()
        super().runforever()


def main() -> None:
    os.umask(0o077)
    set_default_options(os.environ)
    limit_no_proxy(os.environ)
    configure_metrics(os.environ)
    if (DATA / "incoming").exists():
        # They are those of the replaced data.
        ROUTES.unlink(missing_ok=True)
        # In another process, as the memory of this one, which becomes the supervisor, is never freed.
        subprocess.run([BIN / "python", "-m", "devpi_mirror.store", "activate"], check=True)
    try:
        role_change.apply(os.environ.get("DEVPISERVER_ROLE", ""), os.environ.get("DEVPISERVER_PRIMARY_URL", ""))
    except DataError as exc:
        sys.exit(f"The server does not start: {exc}")
    prepare_data(os.environ)
    remove_old_responses()
    try:
        apply_settings(os.environ)
        SETTINGS_FAILED.unlink(missing_ok=True)
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as exc:
        # A mirror with outdated settings is better than none. A server that can't start reports that itself.
        report = f"The settings of {INDEX} were not applied: {exc}. Is {DATA}/root-password still root's password?"
        print(report, file=sys.stderr)
        # A full disk is reported separately.
        with suppress(OSError):
            SETTINGS_FAILED.write_text(report)
    configure_nginx(os.environ)
    supervisord.Supervisor = Supervisor
    supervisord.main(["-c", str(ETC / "supervisord.conf")])


if __name__ == "__main__":
    main()
