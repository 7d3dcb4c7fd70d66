# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and log problems, and collect the mirror's status for the module devpi_info."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import devpi_api, tls
from ..config import AHEAD_OF_PRIMARY, DATA, FILES, INDEX, PAGES, RESERVE, SETTINGS_FAILED
from ..credentials import split_credentials
from ..page_store import StoredPage, page_folder, removed
from ..pages import File
from ..policy import Policy, PolicyError, policy_of
from . import backups, data_directory, replication
from .data_directory import count, database_size, disk_space, is_intact, list_files
from .limits import byte_limit, time_limit
from .probe import masked, request
from .state import State, read_state

# Hidden files that the status lists.
HIDDEN_LISTED = 1000


def find_problems(state: State) -> list[str]:
    """Return the problems that an administrator has to solve, each with what to do."""
    problems = []
    free = disk_space()["free"]
    if free < 2 * RESERVE:
        problems.append(
            f"The disk is full ({free // 10**6} MB are free). Cached packages are served, and new ones are not cached. Free "
            "space where Docker stores its data, or set devpi_server_cache_max_size."
        )
    problems += [
        f"{item['file']} is damaged and can't be downloaded again: restore a backup (devpi.mirror.restore)."
        for item in state["damaged"]
        # An administrator may have repaired it since.
        if not item["is_downloadable"] and not is_intact(item["file"])
    ]
    scrub = state["scrub"] or {"lost": [], "error": ""}
    problems += [
        f"{name} is missing and can't be downloaded again: restore a backup (devpi.mirror.restore)."
        for name in scrub["lost"]
        if not (FILES / name).exists()
    ]
    if SETTINGS_FAILED.exists():
        # On a full disk it is empty.
        problems.append(
            SETTINGS_FAILED.read_text() or "The settings of the mirror index were not applied. See the mirror's log."
        )
    if state["compacted"] and state["compacted"]["error"]:
        problems.append(f"Could not compact devpi's database: {state['compacted']['error']}")
    if scrub["error"]:
        problems.append(f"devpi-fsck could not check the files: {scrub['error']}")
    problems += backups.find_problems(time.time(), state["started"])
    problems += [
        f"The maintenance step '{name}' failed: {error}. The other steps ran."
        for name, error in state["failed_steps"].items()
    ]
    if certificate := tls.problem():
        problems.append(certificate)
    if AHEAD_OF_PRIMARY.exists():
        problems.append(
            "This replica has changes that its primary does not have, as after a restore of the primary. It serves its data, "
            "and no longer replicates. Remove it (devpi.mirror.remove, with devpi_server_remove_data), and deploy it again."
        )
    return problems


def log_problems(state: State) -> None:
    """Log problems that are new since the last run, and once that none remain."""
    problems = find_problems(state)
    # A problem that differs in its numbers alone is the same.
    before = {re.sub(r"\d+", "", text) for text in state["problems"]}
    for text in problems:
        if re.sub(r"\d+", "", text) not in before:
            print(f"DEGRADED: {text}", flush=True)
    if state["problems"] and not problems:
        print("RECOVERED: no problems remain", flush=True)
    state["problems"] = problems


def removed_projects() -> list[dict[str, Any]]:
    """Return the projects that the upstreams of mirror indexes have removed lately: ``index``, ``project`` and ``at``."""
    found = []
    for path in sorted(PAGES.glob("*/*/*/removed.json")):
        user, index, *_rest = path.relative_to(PAGES).parts
        for project, at in removed(path.parent, time.time()):
            found.append({"index": f"{user}/{index}", "project": project, "at": at})
    return found


def probe_upstream(url: str) -> dict[str, Any]:
    """Return whether an upstream responds."""
    error = request(url.rstrip("/") + "/pip/", "HEAD").error
    return {"url": masked(url), "reachable": not error, "error": error}


def mirror_status(settings: Mapping[str, Mapping[str, Any]]) -> State:
    """Return ``upstream``, that of the public index, its ``fallback``, ``mirrors``, those of the others, and ``hidden``."""
    from concurrent.futures import ThreadPoolExecutor

    from ..compat import renamed
    from ..mirror import fallback_url

    (name,) = renamed({"mirror_url": None})
    urls = {index: str(values.get(name, "")) for index, values in sorted(settings.items())}
    fallback = split_credentials(fallback_url(INDEX, urls.get(INDEX, ""))).url
    with ThreadPoolExecutor() as pool:
        probed = pool.submit(probe_upstream, fallback) if fallback else None
        upstreams = dict(zip(urls, pool.map(probe_upstream, urls.values()), strict=True))
    return {
        "upstream": upstreams.pop(INDEX, None),
        "fallback": probed.result() if probed else None,
        "mirrors": [{"index": index, **upstream} for index, upstream in upstreams.items()],
        "hidden": hidden_files(settings, urls),
    }


def invalid_policies(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a problem for each mirror index whose policy is invalid."""
    problems = []
    for index, values in sorted(settings.items()):
        try:
            policy_of(values)
        except PolicyError as exc:
            problems.append(
                f"{index} serves no packages, because its package policy is invalid: {exc}. Correct its settings."
            )
    return problems


def policy_or_none(settings: Mapping[str, Any]) -> Policy | None:
    """Return the policy of an index, or None if it has none or an invalid one, with which nothing is served."""
    with suppress(PolicyError):
        return policy_of(settings)
    return None


def hidden_files(settings: Mapping[str, Mapping[str, Any]], urls: Mapping[str, str]) -> dict[str, Any]:
    """Return how many files of cached pages the policies hide, and HIDDEN_LISTED of them."""
    found = [
        {"index": index, "project": path.stem, "filename": file["filename"], **reason.described()}
        for index, url in urls.items()
        if (policy := policy_or_none(settings[index]))
        for path in sorted(page_folder(PAGES, index, url).glob("*.page"))
        for file in listed_files(path)
        if (reason := policy.hides(path.stem, file, datetime.now(UTC)))
    ]
    return {"count": len(found), "files": found[:HIDDEN_LISTED]}


def listed_files(path: Path) -> Iterator[File]:
    """Yield the files of a cached page, the last one first."""
    with suppress(OSError, ValueError, TypeError):
        for _path, file in StoredPage(path).listing().newest_first():
            yield file


def stored_status(state: State) -> State:
    """Return what the status has without a request to devpi or the upstream, and without reading cached files."""
    status: State = {
        "started": state["started"],
        "requests": state["requests"],
        "scrub": state["scrub"],
        "damaged": state["damaged"],
        "problems": state["problems"],
        "disk": disk_space(),
        "limits": {
            "size": byte_limit("CACHE_MAX_SIZE"),
            "age": time_limit("CACHE_MAX_AGE"),
            "database": byte_limit("DATABASE_MAX_SIZE"),
        },
        "database_bytes": database_size(),
        "backup": None,
    }
    with suppress(OSError, ValueError):
        status["backup"] = json.loads((DATA / "last-backup.json").read_text())
    return status


def devpi_status(limit: float) -> dict[str, Any]:
    """Return what devpi reports about itself. Raises OSError, ValueError, KeyError and TypeError."""
    about: dict[str, Any] = devpi_api.send("GET", "/+status", limit=limit)["result"]
    return about


def cache_size(indexes: Iterable[str]) -> dict[str, int]:
    """Return the number of the files of mirror indexes, and their bytes."""
    return count(list_files(indexes))


def collect() -> State:
    """Return the mirror's status. What devpi reports is None if it does not respond."""
    state = read_state()
    status: State = {
        **stored_status(state),
        "problems": find_problems(state),
        "removed_projects": removed_projects(),
        "certificate_expires": tls.expiry(),
        "cache": None,
        "devpi": None,
        "replica": None,
        "replicas": None,
        "upstream": None,
        "fallback": None,
        "mirrors": None,
        "hidden": None,
    }
    try:
        about = devpi_status(limit=10)
        role = replication.role(about, os.environ)
        status["devpi"] = {
            "role": role,
            "uuid": about["uuid"],
            "serial": about["serial"],
            "versions": about["versioninfo"],
        }
        if role == "replica":
            status["replica"] = replication.replica(about)
        elif role == "primary":
            status["replicas"] = replication.replicas(about)
        settings = data_directory.mirror_settings()
        status["cache"] = cache_size(settings)
        status["problems"] += invalid_policies(settings)
        status |= mirror_status(settings)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        status["problems"].append(
            f"devpi-server does not respond ({exc}). Cached packages are served. See the mirror's log."
        )
    return status
