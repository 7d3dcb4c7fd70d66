# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter shell_exports. Its documentation is in shell_exports.yml."""

from __future__ import annotations

import shlex
from typing import Any, Callable


def shell_exports(variables: dict[str, Any]) -> str:
    """Return the commands of a shell that set environment variables, one for each line."""
    return "".join(f"export {name}={shlex.quote(str(value))}\n" for name, value in sorted(variables.items()))


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[dict[str, Any]], str]]:
        return {"shell_exports": shell_exports}
