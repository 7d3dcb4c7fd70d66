# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the commands. The text is for an administrator: what failed, and what to do."""

from __future__ import annotations


class DataError(Exception):
    """A command can't be completed, and the data directory is unchanged."""


class ForceRequiredError(DataError):
    """A restore would discard data that the backup does not contain."""
