# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients get from private indexes while the upstream is unreachable, besides what they get in every state."""

from __future__ import annotations

import pytest
from harness import JSON
from index_state import mirror


@pytest.mark.parametrize("accept", [JSON, "text/html"])
def test_a_project_that_only_the_upstream_has_is_an_error(accept: str) -> None:
    answer = mirror.ask("/acme/dev/+simple/new1/", Accept=accept)
    assert (answer.status, answer.headers.get("retry-after")) == (503, "10"), answer
    assert "upstream" in answer.text
