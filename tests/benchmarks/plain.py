# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command of devpi without the plugin of the image: plain.py COMMAND [ARGUMENT ...]"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any

import pluggy

initialize = pluggy.PluginManager.__init__


def block_plugin(self: pluggy.PluginManager, *arguments: Any) -> None:
    initialize(self, *arguments)
    self.set_blocked("devpi-mirror")


if __name__ == "__main__":
    pluggy.PluginManager.__init__ = block_plugin  # type: ignore[assignment, method-assign]
    command, *sys.argv[1:] = sys.argv[1:]
    sys.argv[0] = command
    (program,) = entry_points(group="console_scripts", name=command)
    sys.exit(program.load()())
