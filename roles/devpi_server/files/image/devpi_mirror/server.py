# SPDX-License-Identifier: GPL-3.0-or-later
"""Run devpi-server with the plugin of this package. If the database is damaged, report how to repair the mirror."""

from __future__ import annotations

import gc
import sqlite3
import sys
from importlib import import_module

from devpi_server.main import main

if __name__ == "__main__":
    import_module("devpi_mirror.plugin")
    # The loaded modules are never freed, so the garbage collector need not search them again and again.
    gc.freeze()
    sys.argv[0] = "devpi-server"
    try:
        sys.exit(main())  # type: ignore[no-untyped-call]
    except sqlite3.DatabaseError as exc:
        sys.exit(
            f"The database of this mirror is damaged ({exc}). Cached pages and files are still served. Restore a backup: "
            "ansible-playbook devpi.mirror.restore -e devpi_server_restore_file=FILE. If there is no backup, run "
            "ansible-playbook devpi.mirror.remove -e devpi_server_remove_data=true, and then devpi.mirror.site."
        )
