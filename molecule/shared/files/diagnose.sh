#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Prints the state of the mirror and of its Docker daemon, to find out why a test failed. It runs in a test host, without
# arguments: docker exec -i HOST sh <diagnose.sh. Every command is limited to 10 seconds, and the exit code is always 0.
show() {
    echo
    echo "== $*"
    timeout --kill-after 2 10 "$@" </dev/null 2>&1 | tail -n "${lines:-100}"
}
shell() { show sh -c "$1"; }

echo "Diagnosis of $(hostname) at $(date)"
lines=40
show uptime
show df -h / /var/lib/docker
show free -m
show ip -brief address
shell "ss --listening --tcp --numeric --processes"
show docker ps --all --no-trunc
shell "docker image ls; docker volume ls"
shell "docker inspect --format '{{ json .State }} {{ json .HostConfig.RestartPolicy }}' devpi"
lines=100
for container in $(timeout 10 docker container ls --all --filter label=devpi.mirror.role --format '{{.Names}}'); do
    show docker logs --tail 100 "$container"
done
lines=20
show docker exec devpi /opt/devpi/bin/python -m devpi_mirror.maintenance status
show docker top devpi
shell "docker exec devpi ls -la /data /data/server /tmp"
lines=100
if [ -d /run/systemd/system ]; then
    show systemctl list-units --failed --no-pager
    show systemctl status --no-pager devpi docker
    show journalctl --no-pager --lines 100 --unit devpi
    lines=50
    show journalctl --no-pager --lines 50 --unit docker
else
    for file in /var/log/devpi* /var/log/devpi*/current /var/log/docker.log /var/log/dockerd.log; do
        if [ -f "$file" ]; then show tail -n 100 "$file"; fi
    done
fi
lines=50
show tail -n 50 /run/fault.log
shell "ps axf"
exit 0
