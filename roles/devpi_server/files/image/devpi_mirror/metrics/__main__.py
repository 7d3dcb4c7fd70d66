# SPDX-License-Identifier: GPL-3.0-or-later
"""Export the metrics: ``python -m devpi_mirror.metrics``"""

from __future__ import annotations

import os
import time

from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from ..config import METRICS_PORT, METRICS_VALUES
from .requests import Requests
from .state import State

# Seconds between two reads of nginx's log.
PERIOD = 2.0


def main() -> None:
    os.nice(10)
    # A second value for each counter, which few users need.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    requests, state = Requests(registry), State()
    registry.register(state)
    MultiProcessCollector(registry, str(METRICS_VALUES))  # type: ignore[no-untyped-call]
    requests.clear()
    start_http_server(METRICS_PORT, registry=registry)
    while True:
        requests.count()
        state.count_files()
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
