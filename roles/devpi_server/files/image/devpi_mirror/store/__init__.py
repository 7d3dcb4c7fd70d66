# SPDX-License-Identifier: GPL-3.0-or-later
"""Store files in devpi's data directory, back it up, restore, migrate and compact it.

``python -m devpi_mirror.store`` is the command line, see ``__main__``.
"""
