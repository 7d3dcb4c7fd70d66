# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit, check and report what the mirror stores: ``python -m devpi_mirror.maintenance``, see ``__main__``."""
