# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashes of files: the known algorithms, and the valid digests of each."""

from __future__ import annotations

import hashlib
import re
from typing import Any

ALGORITHMS = ("sha256", "sha512", "sha384", "sha224", "blake2b", "sha1", "md5")
DIGESTS = {
    algorithm: re.compile(f"[0-9a-fA-F]{{{2 * hashlib.new(algorithm).digest_size}}}") for algorithm in ALGORITHMS
}
# A digest of an unknown algorithm. The path of a file has 16 of its digits.
OTHER_DIGEST = re.compile(r"[0-9a-fA-F]{16,}")


def is_digest(algorithm: str, value: Any) -> bool:
    """Return whether a listed value can be a digest: hexadecimal digits, as many as those of the algorithm."""
    return isinstance(value, str) and bool(DIGESTS.get(algorithm, OTHER_DIGEST).fullmatch(value))
