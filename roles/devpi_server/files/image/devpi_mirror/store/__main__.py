# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up the data directory, check and restore backups, migrate and compact: ``python -m devpi_mirror.store COMMAND``

An error is printed on standard error, in one line, with exit status 1. With status 3, ``restore`` refuses to discard data that
the backup does not contain: ``--force`` overrides that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ..config import SERVERDIR
from . import backup, check, export, freeze, rebuild, restore
from .errors import DataError, ForceRequiredError

STATUS_ERROR = 1
STATUS_FORCE_REQUIRED = 3


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the parsed arguments, with the function ``run`` of the command, which is called with them."""
    parser = argparse.ArgumentParser(prog="devpi_mirror.store", description="Manage devpi's data directory")
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("backup", help="write a backup to standard output")
    command.add_argument("--mirrored-files", action="store_true", help="include the files of mirror indexes")
    command.set_defaults(run=lambda args: backup.back_up(args.mirrored_files))

    command = commands.add_parser("check", help="check the backup from standard input, in a container of its own")
    command.set_defaults(run=lambda _args: print(json.dumps(check.check())))

    command = commands.add_parser("note", help="record the name of a backup that was checked")
    command.add_argument("name")
    command.set_defaults(run=lambda args: backup.record(args.name))

    command = commands.add_parser("restore", help="stage the backup from standard input, for the next start")
    command.add_argument("--force", action="store_true", help="discard data that the backup does not contain")
    command.set_defaults(run=lambda args: print("staged" if restore.restore(args.force) else "unchanged"))

    command = commands.add_parser("activate", help="activate the staged data, while devpi does not run")
    command.set_defaults(run=lambda _args: restore.activate())

    command = commands.add_parser("undo", help="stage the data that was replaced, for the next start")
    command.set_defaults(run=lambda _args: restore.undo())

    command = commands.add_parser("export", help="freeze the mirror, and export what is not mirrored")
    command.add_argument("folder", type=Path)
    command.set_defaults(run=lambda args: freeze_and_export(args.folder))

    command = commands.add_parser("unfreeze", help="accept changes again")
    command.set_defaults(run=lambda _args: freeze.unfreeze())

    command = commands.add_parser(
        "import", help="import the export and the files of an earlier release's data directory"
    )
    command.add_argument("earlier", type=Path)
    command.set_defaults(run=lambda args: export.import_earlier(args.earlier))

    command = commands.add_parser("compact", help="rebuild the data directory with the current state alone")
    command.set_defaults(run=lambda _args: rebuild.compact())
    return parser.parse_args(arguments)


def freeze_and_export(folder: Path) -> None:
    freeze.freeze()
    export.export(SERVERDIR, folder)


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    try:
        args.run(args)
    except ForceRequiredError as exc:
        print(exc, file=sys.stderr)
        return STATUS_FORCE_REQUIRED
    except (DataError, OSError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return STATUS_ERROR
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
