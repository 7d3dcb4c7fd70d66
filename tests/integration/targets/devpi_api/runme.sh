#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Not a role, so that the releases of devpi-server are tested at the same time.
set -eux
exec ansible-playbook -i inventory.yml main.yml "$@"
