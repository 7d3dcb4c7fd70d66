"""Limit and check what the mirror caches, and report its state: ``python -m devpi_mirror.maintenance used | all | look``

``used`` reads which files were asked for since the last time, and then

- checks each of these against the hash in its path, and has a damaged one fetched again,
- removes the files that nobody has used for longest, where the cache is bounded and something came,
- says in the log what is wrong, once, and once that it is well again.

``all`` also

- removes what interrupted downloads have left,
- removes the files that nobody has used for too long, and the pages that have not been requested for a year,
- checks all files, when that is due, and after a start that lacked a file,
- has the store made small again, where devpi's database is bounded and too large.

``look`` prints what these have found as JSON, with what can be asked at that moment: how devpi is, how much there is,
and whether the upstream can be reached, which nobody else asks for without need.

Whatever of a mirror index is removed comes back when somebody asks for it. Files of other indexes are never touched.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .config import (
    BIN,
    DATA,
    FILES,
    INDEX,
    LISTEN_CONF,
    MIRROR_TYPES,
    NGINX_PID,
    PAGES,
    RESERVE,
    SCRUB_REQUESTED,
    SETTINGS_FAILED,
    STORE,
    TEMPORARY,
)
from .devpi_api import Unavailable, send
from .page_store import removed

USES = DATA / "nginx" / "uses.log"
# Named as in earlier releases.
STATE = DATA / "caretaker.json"
LOCK = Path("/tmp/maintenance.lock")
DAMAGED = DATA / "damaged"
# As old as the container, as the folder that it is in goes with it.
STARTED = LISTEN_CONF
FSCK = [str(BIN / "devpi-fsck"), "--serverdir", str(STORE)]
COMPACT = [str(BIN / "python"), "-m", "devpi_mirror.store", "compact"]

# Seconds without a new byte after which nobody is writing a file any more: devpi itself gives up far earlier.
ABANDONED = 60
# The same of a download. It may wait for an upstream that does not respond, several times, and for devpi's database.
DOWNLOAD_ABANDONED = 600
# Seconds after which it is tried again to make the store small, and how much it has to have grown.
COMPACT_EVERY = 86400
COMPACT_GROWN = 1.25
# How many damaged files are kept for a person to look at.
KEPT_DAMAGED = 5
# Seconds after its last request that the page of a project is removed, and bytes of all pages. Those that were not requested
# for longest are removed first.
PAGES_AGE = 365 * 86_400
PAGES_SIZE = 1_000_000_000
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
# Where devpi keeps a file: user, index, and the first 16 digits of the hash.
IN_STORE = re.compile(r"([^/\s]+/[^/\s]+)/\+f/([0-9a-f]{3})/([0-9a-f]{13})/[^/\s]+")
# What devpi calls one that is not in its place yet.
COMING = re.compile(r"(.+?)(-[0-9a-f]{8,64})?-tmp")

State = dict[str, Any]


def amount(text: str, units: dict[str, int]) -> float:
    """Return how many seconds or bytes such a text means, as in ``90d`` or ``20g``. Nothing is 0. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]?)", text.strip().lower() or "0")
    if not found or found[2] not in units:
        raise ValueError(f"{text} is no amount")
    return float(found[1]) * units[found[2]]


class Stored(NamedTuple):
    """A file of devpi's: its path below devpi's files, its bytes, and when it was last used (seconds since the epoch)."""

    path: str
    size: int
    used: float


def read_state() -> State:
    """Return what was found earlier. What is counted since the start begins anew with the container."""
    try:
        read: Any = json.loads(STATE.read_text())
    except (OSError, ValueError):
        read = {}
    state: State = read if isinstance(read, dict) else {}
    state.setdefault("troubles", [])
    state.setdefault("damaged", [])
    state.setdefault("unchecked", [])
    state.setdefault("scrub", None)
    state.setdefault("compacted", None)
    state.setdefault("failed_steps", {})
    state.setdefault("since", time.time())
    started = STARTED.stat().st_mtime if STARTED.exists() else time.time()
    if state.get("started") != started:
        state.update(started=started, requests={"hit": 0, "stale": 0, "miss": 0})
    return state


def write_state(state: State) -> None:
    """Write the state down, whole or not at all. On a full disk the next time does it."""
    fresh = STATE.with_name(STATE.name + ".new")
    with suppress(OSError):
        fresh.write_text(json.dumps(state))
        fresh.replace(STATE)


def take_uses() -> list[tuple[str, str]]:
    """Return what was asked for since the last call, as the answer's X-Cached and the path, and forget it."""
    try:
        with USES.open("r+", errors="replace") as stream:
            lines = stream.read().splitlines()
            # nginx appends, so that it goes on at the new end.
            stream.truncate(0)
    except OSError:
        return []
    return [(had.lower(), path) for had, _space, path in (line.partition(" ") for line in lines) if path]


def note_uses(state: State, uses: Iterable[tuple[str, str]]) -> list[str]:
    """Count answers, and note of each file that it was used. Returns the files, as paths below devpi's."""
    now = time.time()
    used = {}
    for had, path in uses:
        # EXPIRED and its like mean that somebody waited for devpi too.
        state["requests"][had if had in ("hit", "stale") else "miss"] += 1
        name = path.lstrip("/")
        if IN_STORE.fullmatch(name) and name not in used:
            with suppress(OSError):
                os.utime(FILES / name, (now, (FILES / name).stat().st_mtime))
                used[name] = True
    return list(used)


def is_whole(name: str, path: Path | None = None) -> bool:
    """Return whether a file, which may still be at another path, has the hash that its name begins with.

    A missing file counts as whole, and one that can't be read as damaged.
    """
    found = IN_STORE.fullmatch(name)
    try:
        with (path or FILES / name).open("rb") as stream:
            # An upstream may tell another hash than this one, which is the field's.
            return not found or any(
                hashlib.file_digest(stream, kind).hexdigest().startswith(found[2] + found[3])
                for kind in ("sha256", "md5", "sha1", "sha512", "blake2b")
                if stream.seek(0) == 0
            )
    except FileNotFoundError:
        return True
    except OSError:
        return False


def mirror_indexes() -> set[str]:
    """Return the indexes that are mirrors, as ``user/index``. Raises OSError and ValueError."""
    users = send("GET", "/")["result"]
    return {
        f"{user}/{name}"
        for user, about in users.items()
        for name, index in about.get("indexes", {}).items()
        if index["type"] in MIRROR_TYPES
    }


def put_aside(state: State, names: Iterable[str], mirrors: set[str]) -> None:
    """Have damaged files of mirrors fetched again; those of other indexes are the only ones there are, and stay."""
    for name in names:
        of_mirror = IN_STORE.fullmatch(name)[1] in mirrors  # type: ignore[index]
        state["damaged"] = [item for item in state["damaged"] if item["file"] != name][-19:]
        state["damaged"].append({"file": name, "found": time.time(), "mended": of_mirror})
        print(f"{name} is damaged: {'it is fetched again' if of_mirror else 'only a backup has it'}", flush=True)
        if not of_mirror:
            continue
        DAMAGED.mkdir(mode=0o700, exist_ok=True)
        # It can have been evicted meanwhile.
        with suppress(FileNotFoundError):
            (FILES / name).replace(DAMAGED / name.replace("/", "_"))
        for old in sorted(DAMAGED.iterdir(), key=lambda path: path.stat().st_ctime)[:-KEPT_DAMAGED]:
            old.unlink()
        # nginx keeps files open, and would go on sending this one.
        with suppress(OSError, ValueError):
            os.kill(int(NGINX_PID.read_text()), signal.SIGHUP)
        with suppress(OSError, ValueError):
            send("GET", "/" + name, limit=600)


def check_used(state: State, used: Iterable[str]) -> None:
    """Compare the files that clients downloaded with their hashes, and quarantine damaged ones.

    If devpi is unavailable, the next run checks them too.
    """
    state["unchecked"] = sorted({*state["unchecked"], *used})
    damaged = [name for name in state["unchecked"] if not is_whole(name)]
    if damaged:
        put_aside(state, damaged, mirror_indexes())
    state["unchecked"] = []


def settle(path: Path) -> None:
    """Put a file in its place that devpi has written whole and not put there, or remove it.

    devpi does that itself after a crash, but only for the last change of all.
    """
    found = COMING.fullmatch(path.name)
    place = path.with_name(found[1] if found else path.name)
    name = str(place.relative_to(FILES))
    if IN_STORE.fullmatch(name) and not place.exists() and is_whole(name, path):
        path.replace(place)
    else:
        path.unlink()


def remove_abandoned() -> None:
    """Remove what interrupted downloads and uploads have left, and an interrupted compaction."""
    shutil.rmtree(DATA / "compact", ignore_errors=True)
    now = time.time()
    for pattern, folder, end, age in (
        ("*-tmp", FILES, settle, ABANDONED),
        ("*", TEMPORARY, Path.unlink, DOWNLOAD_ABANDONED),
        ("*", DATA / "nginx" / "tmp", Path.unlink, ABANDONED),
    ):
        for path in folder.rglob(pattern):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < now - age:
                    end(path)


def stored(indexes: Iterable[str]) -> Iterator[Stored]:
    """Yield the files that these indexes have."""
    for index in indexes:
        for folder, _folders, names in os.walk(FILES / index):
            for name in names:
                with suppress(OSError):
                    path = os.path.join(folder, name)
                    status = os.stat(path)
                    yield Stored(os.path.relpath(path, FILES), status.st_size, max(status.st_atime, status.st_mtime))


def surplus(files: Iterable[Stored], max_size: float, max_age: float, now: float) -> list[Stored]:
    """Return the files to remove: those unused for longer than ``max_age`` seconds, and the longest unused above ``max_size``.

    A limit of 0 is none. Below ``max_size`` a tenth is made free, so that not every new file has one removed.
    """
    by_use = sorted(files, key=lambda file: file.used)
    gone = [file for file in by_use if max_age and now - file.used > max_age]
    left = by_use[len(gone) :]
    size = sum(file.size for file in left)
    if max_size and size > max_size:
        for file in left:
            if size <= max_size * 0.9:
                break
            gone.append(file)
            size -= file.size
    return gone


def prune_pages() -> None:
    """Remove pages that have not been requested for long. A page is confirmed by the upstream when it is requested."""
    pages = []
    for path in PAGES.rglob("*.page"):
        with suppress(OSError):
            status = path.stat()
            pages.append(Stored(str(path.relative_to(PAGES)), status.st_size, status.st_mtime))
    for page in surplus(pages, PAGES_SIZE, PAGES_AGE, time.time()):
        (PAGES / page.path).unlink(missing_ok=True)


def removed_projects() -> list[dict[str, Any]]:
    """Return which projects the upstreams of mirror indexes have removed lately: ``index``, ``project`` and ``at``."""
    found = []
    for path in sorted(PAGES.glob("*/*/*/removed.json")):
        user, index, *_rest = path.relative_to(PAGES).parts
        for project, at in removed(path.parent, time.time()):
            found.append({"index": f"{user}/{index}", "project": project, "at": at})
    return found


def limit(name: str, units: dict[str, int]) -> float:
    return amount(os.environ.get(f"DEVPI_MIRROR_{name}", ""), units)


def count(files: list[Stored]) -> dict[str, int]:
    return {"files": len(files), "bytes": sum(file.size for file in files)}


def prune() -> None:
    """Remove what is too much of what mirror indexes have."""
    limits = limit("CACHE_MAX_SIZE", SIZES), limit("CACHE_MAX_AGE", UNITS)
    # Without a limit nothing has to be looked for.
    gone = surplus(stored(mirror_indexes()), *limits, time.time()) if any(limits) else []
    for file in gone:
        # Whoever is being sent it gets it to its end.
        (FILES / file.path).unlink(missing_ok=True)
    if gone:
        told = count(gone)
        print(f"Removed {told['files']} files, {told['bytes']:,} bytes, that nobody has used for longest", flush=True)


def request_scrub() -> None:
    """Have the next run of ``all`` check all files. On a full disk, none does until it is due."""
    with suppress(OSError):
        SCRUB_REQUESTED.touch()


def scrub(state: State) -> None:
    """Have devpi-fsck compare the files in devpi's database with their hashes, and check the other files of mirrors."""
    # First, so that nothing that devpi-fsck finds is lost if devpi is unavailable.
    mirrors = mirror_indexes()
    done = subprocess.run(FSCK, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    total = re.search(r"Finished with a total of (\d+) files", said)
    damaged = {found[0] for found in re.finditer(IN_STORE.pattern + r"(?= - )", said)}
    # A file that the upgrade to a new release has copied has no entry in the database until it is downloaded again.
    mirrored = {file.path for file in stored(mirrors)}
    damaged = {name for name in damaged | mirrored if not is_whole(name)}
    state["scrub"] = {
        "at": time.time(),
        "files": max(int(total[1]) if total else 0, len(mirrored)),
        "damaged": len(damaged),
        # Of mirrors, what has gone comes back; that is a warning of fsck's and no error.
        "lost": sorted({found[1] for found in re.finditer(r"ERR\w*\W+(?:\[.*?\] )?Missing file (\S+)", said)})[:20],
        "error": "" if total else said.strip()[-300:],
    }
    put_aside(state, sorted(damaged), mirrors)
    SCRUB_REQUESTED.unlink(missing_ok=True)


def database_size() -> int:
    """Return how many bytes devpi's database takes."""
    return sum(path.stat().st_size for path in STORE.glob(".sqlite*"))


def is_too_large(state: State) -> bool:
    """Tell whether the database should be made small: it was not tried lately, or it has grown since."""
    bound, last = limit("DATABASE_MAX_SIZE", SIZES), state["compacted"]
    if not bound or (last and time.time() - last["at"] < COMPACT_EVERY):
        return False
    return database_size() > max(bound, COMPACT_GROWN * last["bytes"] if last else 0)


def compact(state: State) -> None:
    """Have a new store made of what there is now."""
    before = database_size()
    done = subprocess.run(COMPACT, capture_output=True, text=True, check=False)
    after = database_size()
    error = "" if done.returncode == 0 else done.stderr.strip()[-300:]
    state["compacted"] = {"at": time.time(), "bytes": after, "error": error}
    print(error or f"devpi's database took {before:,} bytes and takes {after:,}", flush=True)


def disk() -> dict[str, int]:
    status = os.statvfs(DATA)
    return {"free": status.f_bavail * status.f_frsize, "total": status.f_blocks * status.f_frsize}


def troubles(state: State) -> list[str]:
    """Return what a person should do something about, a sentence or two for each."""
    found = []
    free = disk()["free"]
    if free < 2 * RESERVE:
        found.append(
            f"The disk is full ({free // 10**6} MB are free): what is cached is served, and nothing new is kept. Free some "
            "room where Docker keeps its data, or set devpi_server_cache_max_size."
        )
    for item in state["damaged"]:
        # Somebody may have put it right since.
        if not item["mended"] and not is_whole(item["file"]):
            found.append(f"{item['file']} is damaged, and no mirror has it: restore a backup (devpi.mirror.restore).")
    told = state["scrub"] or {"lost": [], "error": ""}
    found += [
        f"{name} has gone, and no mirror has it: restore a backup (devpi.mirror.restore)."
        for name in told["lost"]
        if not (FILES / name).exists()
    ]
    if SETTINGS_FAILED.exists():
        # On a full disk it is empty.
        found.append(
            SETTINGS_FAILED.read_text() or "The settings of the mirror index were not applied. See the mirror's log."
        )
    if state["compacted"] and state["compacted"]["error"]:
        found.append(f"devpi's database can't be made smaller: {state['compacted']['error']}")
    if told["error"]:
        found.append(f"devpi-fsck can't check the files: {told['error']}")
    found += [
        f"The maintenance step '{name}' failed: {error}. The other steps ran."
        for name, error in state["failed_steps"].items()
    ]
    return found


def tell(state: State) -> None:
    """Say in the log what is wrong now and was not before, and when all is well again."""
    now = troubles(state)
    # The same trouble with other numbers is the same.
    before = {re.sub(r"\d+", "", text) for text in state["troubles"]}
    for text in now:
        if re.sub(r"\d+", "", text) not in before:
            print(f"DEGRADED: {text}", flush=True)
    if state["troubles"] and not now:
        print("All is well again", flush=True)
    state["troubles"] = now


def is_scrub_due(state: State) -> bool:
    if SCRUB_REQUESTED.exists():
        return True
    every = limit("SCRUB_EVERY", UNITS)
    return bool(every) and time.time() - (state["scrub"]["at"] if state["scrub"] else state["since"]) > every


def run_step(state: State, name: str, step: Callable[[], None]) -> None:
    """Run one step of the maintenance, and record in the state whether it failed."""
    try:
        step()
    except Unavailable:
        # The next run does what needs devpi, and ``look`` reports that devpi does not answer.
        return
    except Exception as exc:
        state["failed_steps"][name] = f"{type(exc).__name__}: {exc}"
    else:
        state["failed_steps"].pop(name, None)


def see_to(everything: bool) -> None:
    """See to what was used, or to everything."""
    state = read_state()
    uses = take_uses()

    def is_larger() -> bool:
        return bool(limit("CACHE_MAX_SIZE", SIZES)) and any(had not in ("hit", "stale") for had, _path in uses)

    if everything:
        run_step(state, "remove abandoned files", remove_abandoned)
    run_step(state, "check used files", lambda: check_used(state, note_uses(state, uses)))
    run_step(state, "evict files", lambda: prune() if everything or is_larger() else None)
    if everything:
        run_step(state, "evict pages", prune_pages)
        run_step(state, "check all files", lambda: scrub(state) if is_scrub_due(state) else None)
        run_step(state, "compact the database", lambda: compact(state) if is_too_large(state) else None)
    tell(state)
    write_state(state)


def upstream() -> dict[str, Any]:
    """Tell whether the upstream can be reached, as devpi reaches it."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from .compat import renamed

    (name,) = renamed({"mirror_url": None})
    url = send("GET", f"/{INDEX}?no_projects=")["result"].get(name, "")
    shown = re.sub(r"//[^/\s]*@", "//***@", url)
    try:
        with urlopen(Request(url.rstrip("/") + "/pip/", method="HEAD"), timeout=10):
            return {"url": shown, "reachable": True, "error": ""}
    except HTTPError as exc:
        # It has no such package, or does not tell without a password that devpi has: it answers.
        return {"url": shown, "reachable": exc.code < 500, "error": "" if exc.code < 500 else f"it answers {exc.code}"}
    except (OSError, ValueError) as exc:
        return {"url": shown, "reachable": False, "error": str(getattr(exc, "reason", exc))}


def look() -> State:
    """Return how the mirror is, for the module devpi_info."""
    state = read_state()
    found: State = {
        "started": state["started"],
        "requests": state["requests"],
        "scrub": state["scrub"],
        "damaged": state["damaged"],
        "troubles": troubles(state),
        "disk": disk(),
        "limits": {
            "size": limit("CACHE_MAX_SIZE", SIZES),
            "age": limit("CACHE_MAX_AGE", UNITS),
            "database": limit("DATABASE_MAX_SIZE", SIZES),
        },
        "store_bytes": database_size(),
        "removed_projects": removed_projects(),
        "backup": None,
        "cache": None,
        "devpi": None,
        "upstream": None,
    }
    with suppress(OSError, ValueError):
        found["backup"] = json.loads((DATA / "last-backup.json").read_text())
    try:
        status = send("GET", "/+status", limit=10)["result"]
        found["devpi"] = {
            "role": status["role"].lower(),
            "uuid": status["uuid"],
            "serial": status["serial"],
            "versions": status["versioninfo"],
        }
        found["cache"] = count(list(stored(mirror_indexes())))
        found["upstream"] = upstream()
    except (OSError, ValueError, KeyError, TypeError) as exc:
        found["troubles"].append(
            f"devpi-server does not answer ({exc}): what is cached is served. See the mirror's log."
        )
    return found


def main() -> None:
    os.nice(19)
    if sys.argv[1:] == ["look"]:
        print(json.dumps(look()))
        return
    with LOCK.open("w") as lock:
        # Each run reads the state and writes it at its end.
        fcntl.flock(lock, fcntl.LOCK_EX)
        see_to(everything=sys.argv[1:] == ["all"])


if __name__ == "__main__":
    main()
