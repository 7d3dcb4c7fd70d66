# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter failure_cause. Its documentation is in failure_cause.yml."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask

# How the messages begin with which Ansible refers to the output of a failed command or module.
NO_CAUSE = ("non-zero return code", "MODULE FAILURE")
# Docker's warning about its builder, with its indented lines.
BUILDER_WARNING = re.compile(r"DEPRECATED: The legacy builder.*\n(?:[ ].*\n|\n)*")
# The text of a command of the Dockerfile, which can have many lines.
COMMAND_TEXT = re.compile(r"The command '.*' returned", re.DOTALL)
# The characters of a longer cause that are returned: its beginning and its end.
LIMIT = 1500
BEGINNING = 500
END = 1000


def failure_cause(result: dict[str, Any]) -> str:
    """Return why a task failed, from its result, without credentials. Of a loop, the first failed item counts."""
    # Package managers return texts as results.
    items = [item for item in result.get("results") or [] if isinstance(item, dict) and item.get("failed")]
    source = items[0] if items else result

    def text_of(key: str) -> str:
        return BUILDER_WARNING.sub("", str(source.get(key) or "")).strip()

    message = text_of("msg")
    # With a terminal, a module's error is in its standard output.
    keys = ("stderr", "module_stderr", "module_stdout")
    texts = ["" if message.startswith(NO_CAUSE) else message, *map(text_of, keys)]
    text = ": ".join(filter(None, texts)) or text_of("stdout") or message
    text = mask(COMMAND_TEXT.sub("The command returned", text))
    return text if len(text) < LIMIT else f"{text[:BEGINNING]} ... {text[-END:]}"


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[dict[str, Any]], str]]:
        return {"failure_cause": failure_cause}
