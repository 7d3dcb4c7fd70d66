"""Back up the store, check a backup, restore one, and compact the store: ``python -m devpi_mirror.store COMMAND``

A backup is a tar archive, on standard output or input: ``manifest.json`` first, then the database as it was at one moment, the
secret and the root password, and the files of all indexes that are no mirrors (of mirrors too, if asked). devpi goes on
serving meanwhile, as sqlite copies a database in use and a file of devpi's never changes once it is there.

``check`` is for a container of its own, with nothing in its volume: it unpacks a backup, has devpi-fsck compare every file with
its hash, has devpi-server answer, and prints the manifest. ``restore`` puts a backup beside the store; when the container is
started again, the one takes the place of the other (``take_place``), and what was there stays as ``replaced``, which
``undo`` brings back in the same way.

devpi's database keeps every state that a page ever had. ``compact`` makes a new store of what there is now, with devpi-export
and devpi-import, while the old one serves and refuses changes. Before it takes the place of the old one, what both export of
all that is no mirror's has to be the same.

What goes wrong is said in one line, with exit code 1.
"""

from __future__ import annotations

import argparse
import filecmp
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from devpi_server import __version__

from .compat import CHANGES, DATABASE, MAJOR
from .config import BIN, DATA, MIRROR_TYPES, PAGES, RESERVE, STORE, TEMPORARY
from .devpi_api import send
from .maintenance import database_size, disk, mirror_indexes

INCOMING = DATA / "incoming"
REPLACED = DATA / "replaced"
COMPACT = DATA / "compact"
# Marks that nginx is to refuse changes.
FROZEN = Path("/tmp/frozen")
# Seconds that a store is kept which a restore has replaced.
KEEP_REPLACED = 30 * 86400
# Beside the store: what makes tokens, passwords and settings the same again.
BESIDE = ("secret", "root-password", "settings-applied")

Manifest = dict[str, Any]


class Refused(Exception):
    """What was asked for can't be done. The text tells why."""


def describe(server: Path) -> Manifest:
    """Return ``uuid`` and ``serial`` of a store. Raises Refused if it can't be read."""
    try:
        uuid = json.loads((server / ".nodeinfo").read_text())["uuid"]
        with closing(sqlite3.connect(f"file:{server / DATABASE}?mode=ro", uri=True)) as database:
            (serial,) = database.execute(f"SELECT MAX(serial) FROM {CHANGES}").fetchone()
    except (OSError, ValueError, KeyError, sqlite3.Error) as exc:
        raise Refused(f"the store in {server} can't be read ({exc})") from exc
    return {"uuid": uuid, "serial": serial}


def is_sound(server: Path) -> bool:
    """Return whether all of a database can be read. A damaged one can still answer its serial."""
    try:
        with closing(sqlite3.connect(f"file:{server / DATABASE}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def copy_database(server: Path, target: Path) -> None:
    """Copy the database as it is at this moment, while it is in use. Raises Refused."""
    try:
        source = sqlite3.connect(f"file:{server / DATABASE}?mode=ro", uri=True)
        with closing(source) as database, closing(sqlite3.connect(target)) as copy:
            database.backup(copy)
    except sqlite3.Error as exc:
        raise Refused(f"the database can't be copied ({exc})") from exc


def files_of(server: Path, without: set[str]) -> Iterator[Path]:
    """Yield the files of indexes, but for those of some."""
    for index in sorted((server / "+files").glob("*/*")):
        if "/".join(index.parts[-2:]) not in without:
            yield from (path for path in sorted(index.rglob("*")) if path.is_file() and not path.name.endswith("-tmp"))


def back_up(with_mirrored: bool) -> None:
    """Write a backup to standard output. Raises Refused, OSError and ValueError."""
    server = STORE
    # Not in the folder of temporary files, from which the maintenance removes what is old.
    folder = DATA / "backup"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "server").mkdir(parents=True)
    # How far devpi has told its plugins of changes: what is told twice does no harm, what never is would.
    for name in (".nodeinfo", ".serverversion", ".event_serial"):
        if (server / name).exists():
            shutil.copy2(server / name, folder / "server" / name)
    for name in BESIDE:
        if (DATA / name).exists():
            shutil.copy2(DATA / name, folder / name)
    copy_database(server, folder / "server" / DATABASE)
    mirrors = mirror_indexes()
    manifest = {
        **describe(folder / "server"),
        "format": 1,
        "devpi_server": __version__,
        "made": time.time(),
        "mirrors": sorted(mirrors),
        "mirrored_files": with_mirrored,
    }
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        content = json.dumps(manifest).encode()
        about = tarfile.TarInfo("manifest.json")
        about.size, about.mode, about.mtime = len(content), 0o600, int(manifest["made"])
        archive.addfile(about, io.BytesIO(content))
        archive.add(folder, arcname=".")
        for path in files_of(server, set() if with_mirrored else mirrors):
            # It was removed since, and then the check tells whether that was after the copy of the database.
            with suppress(FileNotFoundError):
                archive.add(path, arcname=str(path.relative_to(DATA)))
    shutil.rmtree(folder)


def harmless(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield what is in an archive, for nobody else to read. Raises Refused for what leads out of its folder."""
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise Refused(f"it has {member.name}, which no backup has")
        member.mode &= 0o700
        yield member


def unpack(target: Path) -> Manifest:
    """Unpack a backup from standard input, and return its manifest. Raises Refused."""
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            archive.extractall(target, members=harmless(archive))
        manifest: Manifest = json.loads((target / "manifest.json").read_text())
        known = manifest["format"] == 1 and manifest["devpi_server"].split(".")[0] == str(MAJOR)
        found = describe(target / "server") if known else {}
    except (Refused, tarfile.TarError, EOFError, OSError, ValueError, KeyError) as exc:
        raise Refused(f"this is no backup of a mirror, or only a part of one ({exc})") from exc
    if not known:
        raise Refused(
            f"this backup is of devpi-server {manifest['devpi_server']} (format {manifest['format']}), and here is "
            f"{__version__}: set devpi_server_release to that of the backup, restore it, and then upgrade"
        )
    if found != {name: manifest[name] for name in found}:
        raise Refused(f"the store in this backup is not what its manifest says: {found}, {manifest}")
    return manifest


def run_devpi(what: str, environ: dict[str, str], command: str, *arguments: str) -> None:
    """Run one of devpi's commands. Raises Refused, with ``what`` and the end of its output, if it fails."""
    done = subprocess.run(
        [BIN / command, *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"{what}: " + " ".join(done.stdout.split())[-900:])


def check() -> Manifest:
    """Unpack a backup into the empty volume of a container that is there for this, and see that it works. Raises Refused."""
    from .entrypoint import SERVER, await_server, settle_environment

    manifest = unpack(DATA)
    environ = dict(os.environ)
    settle_environment(environ)
    TEMPORARY.mkdir(exist_ok=True)
    run_devpi("devpi-fsck finds faults in this backup", environ, "devpi-fsck")
    process = subprocess.Popen(SERVER, env=environ, stdout=sys.stderr)
    try:
        await_server(process)
        users = send("GET", "/")["result"]
    except (RuntimeError, OSError, ValueError) as exc:
        raise Refused(f"devpi-server can't serve from this backup ({exc})") from exc
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    indexes = {f"{user}/{name}" for user, about in users.items() for name in about.get("indexes", {})}
    return {**manifest, "users": sorted(users), "indexes": sorted(indexes)}


def why_not(manifest: Manifest) -> str:
    """Tell what would be lost if this backup took the place of the store: nothing, if the answer is empty."""
    try:
        now = describe(STORE)
    except Refused:
        return ""
    if now["uuid"] == manifest["uuid"]:
        # Pages and files of mirrors change it too, and who can tell.
        return f"the store has changed since: it is at {now['serial']}" if now["serial"] > manifest["serial"] else ""
    try:
        users = send("GET", "/")["result"]
    except (OSError, ValueError):
        return "the store is another one, and devpi does not answer what is in it"
    own = sorted(
        set(users) - {"root"} | {f"root/{name}" for name in users["root"].get("indexes", {}) if name != "pypi"}
    )
    return f"the store is another one, which has {', '.join(own)}" if own else ""


def has_same_files(backup: Path) -> bool:
    """Return whether this mirror has the files, the secret and the root password of a backup, byte for byte."""
    files = [path for path in (backup / "server" / "+files").rglob("*") if path.is_file()]
    files += [backup / name for name in BESIDE[:2] if (backup / name).exists()]
    try:
        return all(filecmp.cmp(path, DATA / path.relative_to(backup), shallow=False) for path in files)
    except OSError:
        # It is missing, was evicted meanwhile, or can't be read: restoring it is the remedy.
        return False


def restore(force: bool) -> bool:
    """Put a backup from standard input beside the store, for the next start. Raises Refused.

    Returns whether that changes anything.
    """
    growing = DATA / "incoming.new"
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(mode=0o700)
    try:
        manifest = unpack(growing)
        with suppress(Refused):
            now = describe(STORE)
            is_same = now == {name: manifest[name] for name in now}
            if not force and is_same and is_sound(STORE) and has_same_files(growing):
                return False
        lost = why_not(manifest)
        if lost and not force:
            made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest["made"]))
            raise Refused(f"the backup is of {made}, at {manifest['serial']}, and {lost}")
        # What mirrors have here need not be fetched again.
        for index in manifest["mirrors"]:
            link_missing(index, STORE, growing / "server")
        shutil.rmtree(REPLACED, ignore_errors=True)
        (growing / "manifest.json").unlink()
        growing.rename(INCOMING)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return True


def undo() -> None:
    """Have what was replaced take its place again, at the next start. Raises Refused."""
    if INCOMING.exists():
        # It has not come into force yet.
        shutil.rmtree(INCOMING)
    elif REPLACED.exists():
        REPLACED.rename(INCOMING)
    else:
        raise Refused("nothing was replaced")


def take_place() -> None:
    """Have what ``restore`` has put beside the store take its place, while nothing else runs.

    A crash at any point is mended by the next call.
    """
    if not INCOMING.exists():
        return
    REPLACED.mkdir(mode=0o700, exist_ok=True)
    for path in sorted(INCOMING.iterdir()):
        here = DATA / path.name
        if here.exists():
            here.rename(REPLACED / path.name)
        path.rename(here)
    INCOMING.rmdir()
    print(f"A restored store is in force now; what was there before is in {REPLACED}", flush=True)


def export(server: Path, folder: Path) -> None:
    """Export what is no mirror's of a store, with hard links, into a folder. Raises Refused."""
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--serverdir", str(server), "--hard-links"]
    run_devpi("devpi-export fails", dict(os.environ), "devpi-export", *options, str(folder))


def exported(folder: Path) -> Any:
    """Return what an export says of users, indexes, releases and the hashes of files, to be compared with another."""
    found = json.loads((folder / "dataindex.json").read_text())
    for index in found["indexes"].values():
        for file in index.get("files", []):
            file["entrymapping"] = {"hashes": file.get("entrymapping", {}).get("hashes")}
        index.get("files", []).sort(key=lambda file: str(file["relpath"]))
    return {"users": found["users"], "indexes": found["indexes"]}


def mirrors_of(folder: Path) -> list[str]:
    """Return the mirror indexes in an export, of any release, as ``user/index``."""
    indexes = json.loads((folder / "dataindex.json").read_text())["indexes"]
    return [name for name, index in indexes.items() if index["indexconfig"]["type"] in MIRROR_TYPES]


def copy_missing(index: str, here: Path, there: Path, copy: Callable[[Path, Path], Any] = shutil.copy2) -> None:
    """Give a store the files of a mirror that another one has, so that they are not downloaded again."""
    for path in (here / "+files" / index).rglob("*"):
        target = there / path.relative_to(here)
        if path.is_file() and not path.name.endswith("-tmp") and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            # It can be evicted meanwhile.
            with suppress(FileNotFoundError):
                copy(path, target)


def link_missing(index: str, here: Path, there: Path) -> None:
    """Give a store the files of a mirror that another one on the same volume has."""
    copy_missing(index, here, there, os.link)


def supervise(what: str, program: str = "devpi") -> None:
    """Have the supervisor start or stop a program. Raises OSError or xmlrpc.client.Fault."""
    from supervisor.xmlrpc import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        SupervisorTransport,
    )

    transport = SupervisorTransport(None, None, "unix:///tmp/supervisor.sock")
    getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor, what)(program)


def await_users() -> set[str]:
    """Return the users that devpi tells, once it answers. Raises OSError or ValueError if it does not."""
    for _attempt in range(600):
        with suppress(OSError, ValueError):
            return set(send("GET", "/")["result"])
        time.sleep(0.1)
    return set(send("GET", "/")["result"])


def freeze() -> None:
    """Have nothing changed any more, neither by a client nor by the maintenance."""
    with suppress(xmlrpc.client.Fault):
        supervise("stopProcess", "maintenance")
    # Which the maintenance may have stopped for a moment.
    with suppress(xmlrpc.client.Fault):
        supervise("startProcess")
    FROZEN.touch()


def unfreeze() -> None:
    FROZEN.unlink(missing_ok=True)
    with suppress(xmlrpc.client.Fault):
        supervise("startProcess", "maintenance")


def compact() -> None:
    """Make a new store of what there is now. Raises Refused, and the old one stays."""
    old, fresh = STORE, COMPACT / "incoming" / "server"
    needed = 2 * database_size() + RESERVE
    if disk()["free"] < needed:
        raise Refused(f"it needs {needed // 10**6} MB for a while")
    if REPLACED.exists() and time.time() - REPLACED.stat().st_mtime < KEEP_REPLACED:
        raise Refused(f"a store that was replaced is kept for 30 days: remove {REPLACED} to have it done now")
    if FROZEN.exists():
        raise Refused("the mirror is being upgraded")
    FROZEN.touch()
    shutil.rmtree(COMPACT, ignore_errors=True)
    try:
        mirrors = mirror_indexes()
        COMPACT.mkdir(mode=0o700)
        export(old, COMPACT / "export")
        fresh.parent.mkdir(mode=0o700)
        environ = dict(os.environ, DEVPISERVER_SERVERDIR=str(fresh))
        run_devpi("devpi-import fails", environ, "devpi-import", "--no-events", "--hard-links", str(COMPACT / "export"))
        export(fresh, COMPACT / "own-after")
        supervise("stopProcess")
        try:
            export(old, COMPACT / "own-before")
            if exported(COMPACT / "own-before") != exported(COMPACT / "own-after"):
                raise Refused("somebody has changed something meanwhile")
            for index in mirrors:
                link_missing(index, old, fresh)
            shutil.rmtree(REPLACED, ignore_errors=True)
            (COMPACT / "incoming").rename(INCOMING)
            take_place()
        finally:
            supervise("startProcess")
        if await_users() != exported(COMPACT / "own-after")["users"].keys():
            raise OSError("it has other users")
        shutil.rmtree(REPLACED)
    except (OSError, ValueError, xmlrpc.client.Fault) as exc:
        if REPLACED.exists():
            supervise("stopProcess")
            undo()
            take_place()
            supervise("startProcess")
            shutil.rmtree(REPLACED)
        raise Refused(f"devpi-server can't serve from the new store ({exc})") from exc
    finally:
        FROZEN.unlink(missing_ok=True)
        shutil.rmtree(COMPACT, ignore_errors=True)


def adopt(old: Path) -> None:
    """Fill the empty volume of a new release with what devpi-export of the one before has put on its own. Raises Refused."""
    from .entrypoint import settle_environment

    for name in BESIDE[:2]:
        shutil.copy2(old / name, DATA / name)
    environ = dict(os.environ)
    settle_environment(environ)
    TEMPORARY.mkdir(exist_ok=True)
    run_devpi("devpi-import fails", environ, "devpi-import", "--no-events", str(old / "export"))
    if (old / PAGES.name).exists():
        shutil.copytree(old / PAGES.name, PAGES)
    for index in mirrors_of(old / "export"):
        copy_missing(index, old / STORE.name, STORE)


def note(about: str) -> None:
    """Note a backup that was checked, for the module devpi_info."""
    fresh = DATA / "last-backup.json.new"
    fresh.write_text(json.dumps({"at": time.time(), "file": about}))
    fresh.rename(DATA / "last-backup.json")


def main() -> None:
    os.umask(0o077)
    parser = argparse.ArgumentParser(
        prog="devpi_mirror.store", description="Back up the store, check a backup, and restore one"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("backup").add_argument("--mirrored-files", action="store_true")
    commands.add_parser("check")
    commands.add_parser("restore").add_argument("--force", action="store_true")
    commands.add_parser("take-place")
    commands.add_parser("undo")
    commands.add_parser("adopt").add_argument("old", type=Path)
    commands.add_parser("note").add_argument("file")
    commands.add_parser("compact")
    commands.add_parser("export").add_argument("folder", type=Path)
    commands.add_parser("unfreeze")
    args = parser.parse_args()
    try:
        if args.command == "backup":
            back_up(args.mirrored_files)
        elif args.command == "check":
            print(json.dumps(check()))
        elif args.command == "restore":
            print("put beside" if restore(args.force) else "the same")
        elif args.command == "adopt":
            adopt(args.old)
        elif args.command == "take-place":
            take_place()
        elif args.command == "undo":
            undo()
        elif args.command == "compact":
            compact()
        elif args.command == "export":
            freeze()
            export(STORE, args.folder)
        elif args.command == "unfreeze":
            unfreeze()
        else:
            note(args.file)
    except (Refused, OSError, ValueError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
