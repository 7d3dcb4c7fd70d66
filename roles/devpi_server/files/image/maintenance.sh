#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the maintenance: seconds after requests for the requested files, and for everything once an hour and a minute after the start,
# which may follow a crash. Between the runs it takes no memory and almost no time. nginx must not write to a full disk: this script
# marks it for nginx, and runs the maintenance at once and then every minute. When space is available again, it runs
# once more after a minute, to remove incomplete downloads. A scheduled backup runs beside this, as it can take long: its process
# replaces the time of the next one, which is an hour later if that process is killed.
hour=720
minute=13
checks_left=1
next=$minute
rm -rf /data/backup-check
echo $(($(date +%s) + 60)) >/tmp/backup-due
while :; do
    if [ "$(($(stat --file-system --format '%a * %S' /data) / 1000000))" -lt 64 ]; then
        if [ ! -e /tmp/no-room ]; then
            touch /tmp/no-room
            checks_left=1
        elif [ "$checks_left" -gt "$minute" ]; then
            checks_left=$minute
        fi
    elif [ -e /tmp/no-room ]; then
        rm /tmp/no-room
        checks_left=$minute
    fi
    checks_left=$((checks_left - 1))
    if [ "$checks_left" -le 0 ]; then
        checks_left=$next
        next=$hour
        /opt/devpi/bin/python -m devpi_mirror.maintenance all
    elif [ -s /data/nginx/uses.log ]; then
        /opt/devpi/bin/python -m devpi_mirror.maintenance used
    fi
    if [ -n "$DEVPI_MIRROR_BACKUP_EVERY" ] && [ "$(date +%s)" -ge "$(cat /tmp/backup-due)" ]; then
        echo $(($(date +%s) + 3600)) >/tmp/backup-due
        /opt/devpi/bin/python -m devpi_mirror.maintenance backup &
    fi
    sleep 5
done
