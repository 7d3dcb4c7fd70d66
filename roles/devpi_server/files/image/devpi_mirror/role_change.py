# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the role of a server: ``python -m devpi_mirror.role_change COMMAND``

- ``permit-promotion`` permits that this replica becomes the primary when it starts with DEVPISERVER_ROLE ``primary``. It then
  gets a random root password.
- ``permit`` permits that another replica, or a former primary, follows the promoted server from its next start. One that has
  data which the promoted server may not have starts with new data, and its previous data is retained in a folder beside it.
  With ``--dry-run``, it only prints which of the two applies.
- ``status`` prints the state of this server as JSON.
- ``check`` prints whether the primary of this replica responds, and which private files are missing or damaged, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import devpi_api
from .compat import MAJOR, PRIMARY_URL
from .config import AHEAD_OF_PRIMARY, BIN, DATA, PROMOTION, ROUTES, SERVERDIR
from .maintenance import replication
from .maintenance.integrity import lost_files
from .secret_files import random_text, write_secret
from .store import database
from .store.errors import DataError

NODEINFO = SERVERDIR / ".nodeinfo"
# The role that this server may change to at its next start. It exists until the change is complete.
PERMITTED = DATA / "permitted-role.json"
# Seconds after which a primary that restarts, or whose devpi hangs and is replaced, responds again.
RESTART_LIMIT = float(os.environ.get("DEVPI_MIRROR_RESTART_LIMIT", "60"))
# The data of a server that becomes a replica. The server is last: while it exists, an interrupted move is repeated.
OWN_DATA = ("root-password", "settings-applied", PROMOTION.name, "server")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file, empty if the file does not exist."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def apply(role: str, primary_url: str) -> None:
    """Change the role of the data directory to that of the settings, while devpi does not run.

    Raises DataError if a replica would become the primary without permission: its primary may still accept changes.
    """
    info = read_json(NODEINFO)
    permitted = read_json(PERMITTED)
    if role == "replica":
        is_followed = permitted.get("primary_url") == primary_url
        if info and is_followed:
            follow(info, permitted)
        # A promotion that did not begin is no longer permitted. Without data, it was interrupted after it had moved the data.
        if not info or is_followed or (permitted.get("role") == "primary" and info["role"] == "replica"):
            PERMITTED.unlink(missing_ok=True)
    elif role == "primary":
        if info and permitted.get("role") == "primary":
            promote(info)
        elif info.get("role") == "replica":
            raise DataError("the data is that of a replica, which only devpi.mirror.promote turns into a primary")


def promote(info: dict[str, Any]) -> None:
    """Make the primary of a replica. A promotion that was interrupted is completed."""
    if info["role"] == "replica":
        last = {"previous_uuid": info.get("primary-uuid"), **database.describe(SERVERDIR), "at": time.time()}
        PROMOTION.write_text(json.dumps(last))
        write_nodeinfo({**info, "role": "primary"}, PRIMARY_URL, "primary-uuid", "master-uuid")
    AHEAD_OF_PRIMARY.unlink(missing_ok=True)
    password = random_text(24)
    # devpi-passwd reads the password twice from standard input if it has no terminal.
    subprocess.run(
        [BIN / "devpi-passwd", "--serverdir", SERVERDIR, "root"],
        input=f"{password}\n{password}\n",
        # It refuses devpi-server's options.
        env={name: value for name, value in os.environ.items() if not name.startswith("DEVPISERVER_")},
        text=True,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    write_secret(DATA / "root-password", password)
    PERMITTED.unlink()
    print("This server is the primary now.", flush=True)


def write_nodeinfo(info: dict[str, Any], *omitted: str) -> None:
    write_secret(NODEINFO, json.dumps({name: value for name, value in info.items() if name not in omitted}, indent=2))


def follow(info: dict[str, Any], permitted: dict[str, Any]) -> None:
    """Follow another primary, with new data if the present one can't be continued."""
    if not permitted["needs_new_data"]:
        write_nodeinfo({**info, "primary-uuid": permitted["primary_uuid"]}, "master-uuid")
        return
    folder = DATA / time.strftime("previous-%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(mode=0o700)
    for name in OWN_DATA:
        with suppress(FileNotFoundError):
            (DATA / name).rename(folder / name)
    ROUTES.unlink(missing_ok=True)
    print(f"This server starts as a replica with new data. Its previous data is in {folder}.", flush=True)


def permit_promotion() -> None:
    """Permit that this replica becomes the primary at its next start. Raises DataError if it is no replica."""
    if read_json(NODEINFO).get("role") != "replica":
        raise DataError("this server is not a replica")
    write_secret(PERMITTED, json.dumps({"role": "primary"}))


def permit(
    primary_url: str, primary_uuid: str, previous_uuid: str, serial: int, secret_hash: str, is_dry_run: bool
) -> str:
    """Permit this server to follow another primary from its next start, unless this is a dry run.

    Returns "unchanged" if it already follows it, "continues" if it continues with its data, "replaced" if it needs new data.
    ``previous_uuid`` and ``serial`` are the UUID of the primary that the new one replicated, and its serial at its promotion.
    ``secret_hash`` is the SHA-256 hash of the secret, which all servers of a mirror have, also those that were off during
    several promotions. Raises DataError if this server belongs to another mirror, or its database can't be read.
    """
    info = read_json(NODEINFO)
    is_replica = info.get("role") == "replica"
    is_ahead = AHEAD_OF_PRIMARY.exists()
    if not info or (is_replica and info.get("primary-uuid") == primary_uuid and not is_ahead):
        if not is_dry_run:
            PERMITTED.unlink(missing_ok=True)
        return "unchanged"
    if not is_replica and sha256((DATA / "secret").read_text().strip().encode()).hexdigest() != secret_hash:
        raise DataError(
            "this server is neither a replica nor a former primary, as it has another secret, and has data of its own. To "
            "replace it, remove the mirror with devpi.mirror.remove, and set devpi_server_volume to the name of a new volume"
        )
    continues = is_replica and info.get("primary-uuid") == previous_uuid and not is_ahead
    needs_new_data = not continues or database.describe(SERVERDIR)["serial"] > serial
    content = {"role": "replica", "primary_url": primary_url, "primary_uuid": primary_uuid}
    if not is_dry_run:
        write_secret(PERMITTED, json.dumps({**content, "needs_new_data": needs_new_data}))
    return "replaced" if needs_new_data else "continues"


def is_responding(url: str) -> bool:
    """Return whether a server responds within RESTART_LIMIT. One whose certificate is not valid responds to some clients."""
    deadline = time.monotonic() + RESTART_LIMIT
    while True:
        error = replication.primary(url)["error"]
        if not error or "CERTIFICATE" in error:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(1)


def status() -> dict[str, Any]:
    """Return the state of this server.

    ``primary_serial`` is the last serial of its primary that a replica knows, or None. ``is_ahead`` is whether its primary has
    lacked changes that the replica has.
    """
    info = read_json(NODEINFO)
    is_replica = info.get("role") == "replica"
    primary_serial = None
    if is_replica:
        with suppress(OSError, ValueError):
            primary_serial = devpi_api.send("GET", "/+status")["result"].get("primary-serial")
    return {
        "role": info.get("role"),
        "uuid": info.get("uuid"),
        "serial": database.describe(SERVERDIR)["serial"],
        "primary_url": info.get(PRIMARY_URL) if is_replica else None,
        "primary_uuid": info.get("primary-uuid", info.get("master-uuid")) if is_replica else None,
        "primary_serial": primary_serial,
        "promotion": read_json(PROMOTION) or None,
        "release": MAJOR,
        "is_ahead": AHEAD_OF_PRIMARY.exists(),
    }


def check() -> dict[str, Any]:
    """Return whether the primary of this replica responds, and its missing or damaged private files. Raises OSError."""
    return {"primary_responds": is_responding(read_json(NODEINFO)[PRIMARY_URL]), "lost_files": lost_files()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="devpi_mirror.role_change", description="Change the role of a server")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("status", help="print the state of this server as JSON")
    command.set_defaults(run=lambda _args: json.dumps(status()))
    command = commands.add_parser(
        "check", help="print whether the primary responds and which files are missing, as JSON"
    )
    command.set_defaults(run=lambda _args: json.dumps(check()))
    command = commands.add_parser("permit-promotion", help="permit that this replica becomes the primary")
    command.set_defaults(run=lambda _args: permit_promotion())
    command = commands.add_parser("permit", help="permit this server to follow another primary from its next start")
    for name in ("primary-url", "primary-uuid", "previous-uuid", "secret-hash"):
        command.add_argument(f"--{name}", required=True)
    command.add_argument("--serial", type=int, required=True)
    command.add_argument("--dry-run", action="store_true", help="print what would be done")
    command.set_defaults(
        run=lambda args: permit(
            args.primary_url, args.primary_uuid, args.previous_uuid, args.serial, args.secret_hash, args.dry_run
        )
    )
    args = parser.parse_args()
    try:
        print(args.run(args) or "")
    except (OSError, ValueError, DataError) as exc:
        print(exc, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    os.umask(0o077)
    main()
