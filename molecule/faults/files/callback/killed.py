# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin that kills the play during a task that changes something, in each play at the next one.

The environment variable KILLED_TASKS is the path of a file that lists at which tasks earlier plays were killed.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: killed
type: aggregate
short_description: Kill the play during a task
description: For tests.
"""

# Seconds after which a running task is killed. The play is killed after a task that is faster.
DELAY = 0.5
# Actions that change nothing on the host, however long they take. A kill of the task after them leaves the same state.
READ_ONLY = {
    "ansible.builtin.assert",
    "ansible.builtin.fail",
    "ansible.builtin.include_role",
    "ansible.builtin.include_tasks",
    "ansible.builtin.set_fact",
    "ansible.builtin.setup",
    "ansible.builtin.validate_argument_spec",
    "devpi.mirror.host_info",
}


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "killed"

    def __init__(self) -> None:
        super().__init__()
        self.list = Path(os.environ["KILLED_TASKS"])
        self.killed = self.list.read_text().splitlines() if self.list.exists() else []
        self.task = ""
        self.timer = threading.Timer(0, lambda: None)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.timer.cancel()
        self.task = f"{task.get_name()} ({Path(task.get_path()).name})"
        # A task with changed_when: false leaves no incomplete change.
        is_read_only = task.changed_when == [False] or task.action in READ_ONLY
        if not is_read_only and self.task not in self.killed:
            self.timer = threading.Timer(DELAY, self.kill)
            self.timer.start()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: Any) -> None:
        self.timer.cancel()
        if result._result.get("changed") and self.task not in self.killed:
            self.kill()

    def v2_runner_on_skipped(self, result: Any) -> None:
        self.timer.cancel()

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.timer.cancel()

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.timer.cancel()

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if result._result.get("changed") and self.task not in self.killed:
            self.kill()

    def kill(self) -> None:
        with self.list.open("a") as stream:
            stream.write(f"{self.task}\n")
        os.kill(os.getpid(), signal.SIGKILL)
