#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Like scrapinghub/devpi: runs as root, keeps its data in /mnt, and a shell is PID 1, which ends devpi-server and exits with 143.
set -eu
export DEVPISERVER_SERVERDIR=/mnt
if [ ! -f /mnt/.serverversion ]; then
    devpi-init --root-passwd "$DEVPI_PASSWORD"
fi
devpi-server --host 0.0.0.0 --port 3141 &
server=$!
trap 'kill "$server"' EXIT
trap : TERM
wait "$server"
