# SPDX-License-Identifier: GPL-3.0-or-later
"""The package that the collection's image adds to devpi-server."""
