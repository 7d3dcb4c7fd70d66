# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that the maintenance keeps between its runs, in a JSON file."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config import DATA, LISTEN_CONF, RUN

STATE = DATA / "maintenance.json"
# The state while the disk with the data is full, which is lost when the container ends.
TEMPORARY_STATE = RUN / "maintenance.json"
# Its name in earlier releases of the collection.
EARLIER_STATE = DATA / "caretaker.json"
# The modification time is the start of the container, which loses the file when it ends.
STARTED = LISTEN_CONF

State = dict[str, Any]


def read_state() -> State:
    """Return the state. The counts of requests begin at zero with each start of the container."""
    with suppress(OSError):
        EARLIER_STATE.replace(STATE)
    try:
        read: Any = json.loads(stored_text())
    except (OSError, ValueError):
        read = {}
    state: State = read if isinstance(read, dict) else {}
    state.setdefault("problems", [])
    state.setdefault("damaged", [])
    # The key's name in earlier releases of the collection.
    for item in state["damaged"]:
        if "mended" in item:
            item["is_downloadable"] = item.pop("mended")
    state.setdefault("unchecked", [])
    state.setdefault("scrub", None)
    state.setdefault("compacted", None)
    state.setdefault("failed_steps", {})
    state.setdefault("since", time.time())
    started = STARTED.stat().st_mtime if STARTED.exists() else time.time()
    if state.get("started") != started:
        state.update(started=started, requests={"hit": 0, "stale": 0, "miss": 0})
    return state


def write_state(state: State) -> None:
    """Replace the state atomically. If the disk is full, it is stored outside of the data directory until there is space."""
    text = json.dumps(state)
    try:
        replace_text(STATE, text)
        TEMPORARY_STATE.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            replace_text(TEMPORARY_STATE, text)


def stored_text() -> str:
    """Return the state. Raises OSError if there is none."""
    try:
        return TEMPORARY_STATE.read_text()
    except OSError:
        return STATE.read_text()


def replace_text(path: Path, text: str) -> None:
    """Replace a file atomically. Raises OSError."""
    staged = path.with_name(path.name + ".new")
    staged.write_text(text)
    staged.replace(path)
