#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
if [ ! -f "$DEVPI_SERVERDIR/.serverversion" ]; then
    devpi-init --serverdir "$DEVPI_SERVERDIR" --root-passwd "$DEVPI_PASSWORD"
fi
devpi-server --serverdir "$DEVPI_SERVERDIR" --host 0.0.0.0 --port 3141 >/tmp/devpi-server.log 2>&1 &
# The shell passes no signal on.
tail -f /tmp/devpi-server.log
