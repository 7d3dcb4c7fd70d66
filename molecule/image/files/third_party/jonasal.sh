#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
if [ -z "${DEVPI_PASSWORD:-}" ]; then
    echo "DEVPI_PASSWORD is empty" >&2
    exit 1
fi
mkdir -p /devpi/server
if [ ! -f /devpi/server/.serverversion ]; then
    devpi-init --serverdir /devpi/server --root-passwd "$DEVPI_PASSWORD"
fi
devpi-server --restrict-modify root --serverdir /devpi/server --host 0.0.0.0 --port 3141 &
trap 'kill -INT $!' TERM
wait
