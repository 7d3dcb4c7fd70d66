# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin of devpi-server that hashes passwords at a low cost, as the modules log in hundreds of times in these tests."""

from __future__ import annotations

from passlib.hash import argon2  # type: ignore[import-untyped]

# They differ from those of the hash in test_users.py, which devpi would therefore replace at a login.
argon2.rounds = 1
argon2.memory_cost = 64
argon2.parallelism = 1
