#!/bin/sh
# Runs the maintenance soon after requests for what was used, and once an hour, and a minute after the start, which may follow a crash,
# for everything. In between it takes no memory and next to no time. A full disk is handled at once, as nginx must not write then,
# and again every minute, and once more when what it interrupted is known to be abandoned.
hour=720
minute=13
looks_left=1
next=$minute
while :; do
    if [ "$(($(stat --file-system --format '%a * %S' /data) / 1000000))" -lt 64 ]; then
        if [ ! -e /tmp/no-room ]; then
            touch /tmp/no-room
            looks_left=1
        elif [ "$looks_left" -gt "$minute" ]; then
            looks_left=$minute
        fi
    elif [ -e /tmp/no-room ]; then
        rm /tmp/no-room
        looks_left=$minute
    fi
    looks_left=$((looks_left - 1))
    if [ "$looks_left" -le 0 ]; then
        looks_left=$next
        next=$hour
        /opt/devpi/bin/python -m devpi_mirror.maintenance all
    elif [ -s /data/nginx/uses.log ]; then
        /opt/devpi/bin/python -m devpi_mirror.maintenance used
    fi
    sleep 5
done
