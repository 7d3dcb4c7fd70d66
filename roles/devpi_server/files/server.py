"""devpi-server, without one look at its database for each of thousands of links.

When the page of a project arrives, devpi tells its plugins of files that have changed. It opens a connection to its database
for every link of the page, only to see that it is one of a mirror, of which plugins are not told. That is a third of the time
of a first installation. Here the index is asked about once for all of them, as devpi's own notifier does before.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from devpi_server.main import main
from devpi_server.model import EventSubscribers

tell_of_file = EventSubscribers.on_changed_file_entry


def on_changed_file_entry(self: Any, event: Any) -> None:
    """Tell the plugins of a file, unless it is one of a mirror."""
    place = SimpleNamespace(user=event.typedkey.params.get("user"), index=event.typedkey.params.get("index"))
    config = self.xom.keyfs.notifier.get_ixconfig(place, event.at_serial)
    if config is None or config.get("type") != "mirror":
        tell_of_file(self, event)


if __name__ == "__main__":
    EventSubscribers.on_changed_file_entry = on_changed_file_entry
    sys.argv[0] = "devpi-server"
    sys.exit(main())
