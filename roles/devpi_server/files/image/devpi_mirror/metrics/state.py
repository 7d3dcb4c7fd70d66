# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the mirror as metrics: what the maintenance and devpi report, the image and the certificate."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import tls
from ..config import IMAGE_BUILT, TLS_FILE
from ..maintenance import backups, data_directory, replication, status
from ..maintenance.limits import time_limit
from ..maintenance.state import read_state

# Seconds for which the size of the cache is reused, as all files are counted, and for which devpi may not respond.
CACHE_SIZE_AGE = 300
DEVPI_TIMEOUT = 5

# Values that do not exist, such as the limit of an unlimited cache, are not exported.
GAUGES = {
    "devpi_up": "Whether devpi-server responds.",
    "start_timestamp_seconds": "When the container was started.",
    "image_build_timestamp_seconds": "When the image was built.",
    "problems": "Problems that the maintenance found in its last run.",
    "disk_free_bytes": "Free bytes of the disk that has the data.",
    "disk_size_bytes": "Bytes of the disk that has the data.",
    "cache_bytes": "Bytes of mirrored files.",
    "cache_files": "Mirrored files.",
    "cache_limit_bytes": "The limit of cache_bytes (devpi_server_cache_max_size).",
    "cache_limit_seconds": "Seconds after which unused files are evicted (devpi_server_cache_max_age).",
    "database_bytes": "Bytes of devpi's database.",
    "database_limit_bytes": "Bytes from which the database is compacted (devpi_server_database_max_size).",
    "last_backup_timestamp_seconds": "When the last verified backup was completed.",
    "last_backup_success": "Whether the last scheduled backup succeeded.",
    "backup_interval_seconds": "How often the mirror creates a backup (devpi_server_backup_every).",
    "last_check_timestamp_seconds": "When the last check of all files ended.",
    "last_check_success": "Whether the last check of all files found no damaged and no missing file.",
    "certificate_expiry_timestamp_seconds": "When the TLS certificate expires.",
    "serial": "The serial of devpi's database.",
    "polling_replicas": "Replicas that poll this server.",
    "replica_start_timestamp_seconds": "When the replication was started.",
    "replica_primary_serial": "The serial of the primary that the replica knows.",
    "replica_update_timestamp_seconds": "When the last response of the primary arrived.",
    "replica_in_sync": "Whether the replica has all changes of its primary.",
    "replica_in_sync_timestamp_seconds": "When the replica last had all changes of its primary.",
    "replica_errors": "Files that could not be replicated.",
}
Values = dict[str, float | None]


def stored_values() -> Values:
    """Return the values for which no other process is needed."""
    stored = status.stored_status(read_state())
    limits, scrub = stored["limits"], stored["scrub"]
    values: Values = {
        "start_timestamp_seconds": stored["started"],
        "problems": len(stored["problems"]),
        "disk_free_bytes": stored["disk"]["free"],
        "disk_size_bytes": stored["disk"]["total"],
        "cache_limit_bytes": limits["size"] or None,
        "cache_limit_seconds": limits["age"] or None,
        "database_bytes": stored["database_bytes"],
        "database_limit_bytes": limits["database"] or None,
        "last_backup_timestamp_seconds": stored["backup"]["at"] if stored["backup"] else None,
        "backup_interval_seconds": time_limit("BACKUP_EVERY") or None,
    }
    schedule = backups.read_schedule()
    if values["backup_interval_seconds"] and schedule["attempted"]:
        values["last_backup_success"] = not schedule["error"]
    if scrub:
        values["last_check_timestamp_seconds"] = scrub["at"]
        values["last_check_success"] = not (scrub["damaged"] or scrub["lost"] or scrub["error"])
    with suppress(OSError):
        values["image_build_timestamp_seconds"] = IMAGE_BUILT.lstat().st_mtime
    return values


def devpi_values() -> Values:
    """Return what devpi reports about itself and the replication."""
    try:
        about = status.devpi_status(DEVPI_TIMEOUT)
        values: Values = {
            "devpi_up": 1,
            "serial": about["serial"],
            "polling_replicas": replication.count_polling(about),
        }
        if about["role"] == "REPLICA":
            state = replication.reported(about)
            values |= {
                "replica_start_timestamp_seconds": state["started_at"],
                "replica_primary_serial": state["primary_serial"],
                "replica_update_timestamp_seconds": state["updated_at"],
                "replica_in_sync": replication.is_in_sync(state),
                "replica_in_sync_timestamp_seconds": state["in_sync_at"],
                "replica_errors": state["error_count"],
            }
    except (OSError, ValueError, KeyError, TypeError):
        return {"devpi_up": 0}
    return values


class State(Collector):
    """The state, which is collected for each request except the size of the cache and unchanged dates."""

    def __init__(self) -> None:
        self.cache: Values = {}
        self.cache_due = 0.0
        self.expiry: tuple[float, float | None] = (0, None)

    def count_files(self) -> None:
        """Count the mirrored files if it is due, unless devpi does not respond."""
        if time.monotonic() >= self.cache_due:
            with suppress(OSError, ValueError, KeyError, TypeError):
                size = status.cache_size(data_directory.mirror_indexes())
                self.cache = {"cache_bytes": size["bytes"], "cache_files": size["files"]}
                self.cache_due = time.monotonic() + CACHE_SIZE_AGE

    def certificate_expiry(self) -> float | None:
        """Return when the certificate expires, which another program reads after each change."""
        try:
            changed = TLS_FILE.stat().st_mtime
            if changed != self.expiry[0]:
                self.expiry = (changed, tls.validity(TLS_FILE.read_text()).end)
        except (OSError, tls.CertificateError):
            return None
        return self.expiry[1]

    def collect(self) -> Iterator[Metric]:
        values = {
            **stored_values(),
            **self.cache,
            **devpi_values(),
            "certificate_expiry_timestamp_seconds": self.certificate_expiry(),
        }
        for name, text in GAUGES.items():
            if (value := values.get(name)) is not None:
                yield GaugeMetricFamily(f"devpi_mirror_{name}", text, value=float(value))
        about = {
            "devpi_server": version("devpi-server"),
            "python": platform.python_version(),
            "role": os.environ.get("DEVPISERVER_ROLE") or "standalone",
        }
        yield InfoMetricFamily("devpi_mirror", "The versions of programs, and the server's role.", value=about)
