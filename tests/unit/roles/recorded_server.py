"""Run the image's server.py, and record what devpi-server does with it: recorded_server.py SERVER_PY RECORD [OPTION ...]

RECORD is a text file with one event on each line:

called NAME    devpi-server called the function NAME, which server.py replaces
kept NAME      server.py did not replace the function NAME
skipped        server.py skipped the notifications of a transaction
needed WHAT    devpi-server uses WHAT in the notifications of such a transaction, so they should not have been skipped
"""

from __future__ import annotations

import inspect
import runpy
import sys
import threading
from pathlib import Path

import devpi_server.main
import httpx
from devpi_common.url import URL
from devpi_server import keyfs, model, views
from devpi_server.httpclient import HTTPClient
from devpi_server.keyfs_sqlite import Writer
from pluggy import HookCaller

Notifier = keyfs.TxNotificationThread
REPLACED = [
    (Notifier, "_execute_hooks"),
    (keyfs, "iter_serial_and_value_backwards"),
    (Writer, "commit"),
    (URL, "replace"),
    (URL, "joinpath"),
    (HTTPClient, "async_client"),
    (httpx.Response, "iter_raw"),
    (model, "verify_and_update_password_hash"),
    (views, "tween_keyfs_transaction"),
    (views.PyPIView, "_pkgserv"),
    (views.PyPIView, "simple_list_project"),
    (views.PyPIView, "_makeurl_factory"),
    (views, "iter_stream_remote_file"),
    (views, "iter_cache_remote_file"),
]


class Recorder:
    """Wraps functions of devpi-server, and appends each new event to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: set[str] = set()
        self.lock = threading.Lock()
        # Serials of the transactions of which devpi-server notified its plugins.
        self.notified: set[int] = set()
        self.skipped = threading.local()

    def record(self, event: str) -> None:
        with self.lock:
            if event not in self.events:
                self.events.add(event)
                with self.path.open("a") as stream:
                    stream.write(event + "\n")

    def record_calls(self, owner: object, name: str, event: str, *, in_skipped: bool = False) -> None:
        """Record calls of a function: all, or those alone for transactions of which server.py skips the notifications."""
        function = getattr(owner, name)

        def recorded(*args, **options):
            # To load an index, devpi-server asks plugins for classes.
            is_notification = getattr(self.skipped, "now", False) and "_get_" not in getattr(args[0], "name", "")
            if is_notification or not in_skipped:
                self.record(event.format(*args))
            return function(*args, **options)

        setattr(owner, name, recorded)

    def before_replacement(self) -> None:
        self.execute_hooks = execute_hooks = Notifier._execute_hooks

        def recorded(notifier, serial, log, **options):
            self.notified.add(serial)
            return execute_hooks(notifier, serial, log, **options)

        Notifier._execute_hooks = recorded

    def after_replacement(self) -> None:
        for owner, name in REPLACED:
            if inspect.unwrap(getattr(owner, name)).__module__ != "__main__":
                self.record(f"kept {name}")
            self.record_calls(owner, name, f"called {name}")
        self.record_calls(Notifier, "get_ixconfig", "needed get_ixconfig", in_skipped=True)
        self.record_calls(HookCaller, "__call__", "needed hook {0.name}", in_skipped=True)
        replacement = Notifier._execute_hooks

        def execute_all(notifier, serial, log, **options):
            replacement(notifier, serial, log, **options)
            if serial not in self.notified:
                self.record("skipped")
                self.skipped.now = True
                try:
                    self.execute_hooks(notifier, serial, log, raising=True)
                except Exception as exc:
                    self.record(f"needed what failed: {exc!r}")
                finally:
                    self.skipped.now = False

        Notifier._execute_hooks = execute_all


def main() -> None:
    script, record, *options = sys.argv[1:]
    sys.argv[1:] = options
    sys.path.insert(0, str(Path(script).parent))
    recorder = Recorder(Path(record))
    recorder.before_replacement()
    start = devpi_server.main.main

    def record_and_start() -> int:
        recorder.after_replacement()
        return start()

    # server.py calls this one when all functions are replaced.
    devpi_server.main.main = record_and_start
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
