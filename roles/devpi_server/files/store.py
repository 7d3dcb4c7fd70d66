"""Back up the store, check a backup, and restore one: store.py COMMAND

A backup is a tar archive, on standard output or input: ``manifest.json`` first, then the database as it was at one moment, the
secret and the root password, and the files of all indexes that are no mirrors (of mirrors too, if asked). devpi goes on
serving meanwhile, as sqlite copies a database in use and a file of devpi's never changes once it is there.

``check`` is for a container of its own, with nothing in its volume: it unpacks a backup, has devpi-fsck compare every file with
its hash, has devpi-server answer, and prints the manifest. ``restore`` puts a backup beside the store; when the container is
started again, the one takes the place of the other (``take_place``), and what was there stays as ``replaced``, which
``undo`` brings back in the same way.

What goes wrong is said in one line, with exit code 1.
"""

from __future__ import annotations

import argparse
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
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Iterator

from caretaker import ask, mirror_indexes
from devpi_server import __version__
from names import CHANGES, DATABASE, MAJOR

DATA = Path(os.environ.get("DEVPI_MIRROR_DATA", "/data"))
INCOMING = DATA / "incoming"
REPLACED = DATA / "replaced"
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
    server = DATA / "server"
    # Not in the folder of temporary files, from which the caretaker removes what is old.
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


def run_devpi(what: str, environ: dict[str, str], program: str, *arguments: str) -> None:
    """Run one of devpi's programs. Raises Refused, with ``what`` and the end of what it said, if it fails."""
    done = subprocess.run(
        ["/opt/devpi/bin/" + program, *arguments],
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
    from entrypoint import await_server, settle_environment

    manifest = unpack(DATA)
    environ = dict(os.environ)
    settle_environment(environ)
    (DATA / "tmp").mkdir(exist_ok=True)
    run_devpi("devpi-fsck finds faults in this backup", environ, "devpi-fsck")
    process = subprocess.Popen(["/opt/devpi/bin/python", "/opt/devpi/etc/server.py"], env=environ, stdout=sys.stderr)
    try:
        await_server(process)
        users = ask("/")["result"]
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
        now = describe(DATA / "server")
    except Refused:
        return ""
    if now["uuid"] == manifest["uuid"]:
        # Pages and files of mirrors change it too, and who can tell.
        return f"the store has changed since: it is at {now['serial']}" if now["serial"] > manifest["serial"] else ""
    try:
        users = ask("/")["result"]
    except (OSError, ValueError):
        return "the store is another one, and devpi does not answer what is in it"
    own = sorted(
        set(users) - {"root"} | {f"root/{name}" for name in users["root"].get("indexes", {}) if name != "pypi"}
    )
    return f"the store is another one, which has {', '.join(own)}" if own else ""


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
            now = describe(DATA / "server")
            if now == {name: manifest[name] for name in now}:
                return False
        lost = why_not(manifest)
        if lost and not force:
            made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest["made"]))
            raise Refused(f"the backup is of {made}, at {manifest['serial']}, and {lost}")
        # What mirrors have here need not be fetched again.
        for index in manifest["mirrors"]:
            here, there = (root / "+files" / index for root in (DATA / "server", growing / "server"))
            for path in here.rglob("*"):
                target = there / path.relative_to(here)
                if path.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, target)
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


def adopt(old: Path) -> None:
    """Fill the empty volume of a new release with what devpi-export of the one before has put on its own. Raises Refused."""
    from entrypoint import settle_environment

    for name in BESIDE[:2]:
        shutil.copy2(old / name, DATA / name)
    # Pages lead to files by their hashes, in every release.
    shutil.copytree(old / "nginx" / "kept", DATA / "nginx" / "kept")
    environ = dict(os.environ)
    settle_environment(environ)
    (DATA / "tmp").mkdir(exist_ok=True)
    run_devpi("devpi-import fails", environ, "devpi-import", "--no-events", str(old / "export"))


def note(about: str) -> None:
    """Note a backup that was checked, for the module devpi_info."""
    fresh = DATA / "last-backup.json.new"
    fresh.write_text(json.dumps({"at": time.time(), "file": about}))
    fresh.rename(DATA / "last-backup.json")


def main() -> None:
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="store.py", description="Back up the store, check a backup, and restore one")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("backup").add_argument("--mirrored-files", action="store_true")
    commands.add_parser("check")
    commands.add_parser("restore").add_argument("--force", action="store_true")
    commands.add_parser("take-place")
    commands.add_parser("undo")
    commands.add_parser("adopt").add_argument("old", type=Path)
    commands.add_parser("note").add_argument("file")
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
        else:
            note(args.file)
    except (Refused, OSError, ValueError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
