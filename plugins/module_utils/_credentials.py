# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the credentials in URLs, and mask them. Private to the collection."""

from __future__ import annotations

import re
from typing import Callable

# Up to the last @ before the path: a password can contain one that is not percent-encoded.
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]+(?=@)")


def url_credentials(text: str) -> list[tuple[int, int]]:
    """Return the extents of the credentials in the URLs in ``text``, which are ``user:password``."""
    return [match.span() for match in _CREDENTIALS.finditer(text)]


def mask(text: str, secrets: Callable[[str], list[tuple[int, int]]] = url_credentials) -> str:
    """Return ``text`` with its secrets, by default the credentials in its URLs, replaced by ``***``."""
    for start, end in reversed(secrets(text)):
        text = text[:start] + "***" + text[end:]
    return text


def credentials(text: str) -> list[str]:
    """Return the credentials in the URLs in ``text``, as ``user:password``."""
    return _CREDENTIALS.findall(text)
