#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Like jonasal/devpi-server: runs as root, keeps its data in /devpi/server, and requires the password at every start. Its shell remains
# PID 1 and forwards no signal, so that Docker kills it when it is stopped.
set -eu
if [ -z "${DEVPI_PASSWORD:-}" ]; then
    echo "DEVPI_PASSWORD is not set" >&2
    exit 1
fi
export DEVPISERVER_SERVERDIR=/devpi/server
mkdir -p /devpi/server
if [ ! -f /devpi/server/.serverversion ]; then
    devpi-init --root-passwd "$DEVPI_PASSWORD"
fi
devpi-server --restrict-modify root --host 0.0.0.0 --port 3141
# With a command after it, the shell does not replace itself by devpi-server.
exit 1
