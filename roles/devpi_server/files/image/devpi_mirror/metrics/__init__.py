# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics for Prometheus, which ``python -m devpi_mirror.metrics`` exports. supervisor runs it if they are enabled.

Requests of clients are counted from a log of nginx, which also answers requests without devpi. A Unix socket would lose
messages: in a container, its queue has room for ten. Requests to upstreams are counted by devpi, in files that are mapped into
memory. Everything else is read when the metrics are requested.
"""
