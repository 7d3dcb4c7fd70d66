"""Run devpi-server, which loads the plugin of this package, and report a damaged database with what to do about it."""

from __future__ import annotations

import gc
import sqlite3
import sys
from importlib import import_module

from devpi_server.main import main

if __name__ == "__main__":
    import_module("devpi_mirror.plugin")
    # What has been loaded by now stays: it need not be searched again and again for what can be freed.
    gc.freeze()
    sys.argv[0] = "devpi-server"
    try:
        sys.exit(main())  # type: ignore[no-untyped-call]
    except sqlite3.DatabaseError as exc:
        sys.exit(
            f"The database of this mirror is damaged ({exc}). What is cached is served. Restore a backup: ansible-playbook "
            "devpi.mirror.restore -e devpi_server_restore_file=FILE. Without one: ansible-playbook devpi.mirror.remove -e "
            "devpi_server_remove_data=true, and devpi.mirror.site"
        )
