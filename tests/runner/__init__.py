"""Runs the project's tests: see CONTRIBUTING.md."""
