# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the project's tests: see CONTRIBUTING.md."""
