# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys

from ansible_collections.devpi.mirror.plugins.module_utils import _docker


def test_a_command_that_ends():
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert _docker.execute([sys.executable, "-c", script]) == (3, "out\n", "err\n")


def test_a_command_that_hangs_is_killed():
    script = "import time; print('out', flush=True); time.sleep(600)"
    assert _docker.execute([sys.executable, "-c", script], 0.5) == (1, "", "no answer within 0.5 s")
