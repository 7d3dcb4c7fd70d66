# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter failure_cause. Its documentation is in failure_cause.yml."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible_collections.devpi.mirror.plugins.module_utils._edit import mask

# What Ansible reports for each failed command.
NO_MESSAGE = "non-zero return code"
# Docker's warning about its builder, with its indented lines.
BUILDER_WARNING = re.compile(r"DEPRECATED: The legacy builder.*\n(?:[ ].*\n|\n)*")
# The text of a command of the Dockerfile, which can have many lines.
COMMAND_TEXT = re.compile(r"The command '.*' returned", re.DOTALL)
# The characters of a longer cause that are returned: its beginning and its end.
LIMIT = 1500
BEGINNING = 500
END = 1000


def failure_cause(result: dict[str, Any]) -> str:
    """Return why a task failed, from its result, without credentials."""
    message = str(result.get("msg") or "")
    texts = ["" if message == NO_MESSAGE else message, str(result.get("stderr") or "")]
    text = BUILDER_WARNING.sub("", ": ".join(filter(None, texts)))
    text = mask(COMMAND_TEXT.sub("The command returned", text).strip())
    return text if len(text) < LIMIT else f"{text[:BEGINNING]} ... {text[-END:]}"


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[dict[str, Any]], str]]:
        return {"failure_cause": failure_cause}
