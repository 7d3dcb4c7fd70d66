# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the package of the test runner importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
