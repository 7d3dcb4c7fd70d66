# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.devpi.mirror.plugins.module_utils._credentials import credentials, mask


def test_credentials_are_masked():
    text = "index-url = https://ada:secret@example.com/simple\n"
    assert mask(text) == "index-url = https://***@example.com/simple\n"
    assert credentials(text) == ["ada:secret"]
    assert mask("https://ada:p@ss@example.com/a@1") == "https://***@example.com/a@1"
    assert credentials("https://ada:p@ss@example.com/") == ["ada:p@ss"]
    assert credentials("index-url = https://example.com/simple\nemail = a@b\n") == []
