"""What the image's page_store.py does if the disk fails."""

from __future__ import annotations

import pytest
from devpi_mirror.page_store import PageStore


@pytest.mark.parametrize("project", ["absent", "a" * 300])
def test_a_page_that_can_not_be_read_was_never_confirmed(tmp_path, project):
    store = PageStore(tmp_path)
    store.confirm(project)
    assert store.confirmed(project) == 0.0
    assert store.get(project) is None
