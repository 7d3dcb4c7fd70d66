#!/bin/sh
# Managed by the Ansible role devpi.mirror.devpi_server
# What launchd watches (run), and how it ends (stop).
name=devpi
docker=/usr/bin/docker
image=devpi-mirror:0123456789abcdef
network=devpi-mirror
user=ada
# Seconds that the engine has for one answer.
limit=10

# docker ARGUMENT...: a hung engine must not block a stop of the unit. macOS has no timeout command.
docker() {
    if command -v timeout >/dev/null; then
        timeout -k 1 "$limit" "$docker" "$@"
    else
        "$docker" "$@"
    fi
}

engine() {
    # Docker Desktop and colima belong to a user, and start when that user logs in. /var/run/docker.sock is a link to the socket of
    # one user. The engine of another user would get the mirror's passwords.
    home=/Users/$user
    for socket in "$(readlink /var/run/docker.sock)" "$home/.docker/run/docker.sock" "$home/.colima/default/docker.sock"; do
        case $socket in
        */../*) continue ;;
        "$home"/*) ;;
        *) continue ;;
        esac
        export DOCKER_HOST="unix://$socket"
        if docker version; then return; fi
    done
    return 1
}

image() {
    docker image inspect "$image"
}

# await COMMAND MESSAGE: the message is told once, and not at all if nothing has to be waited for.
await() {
    message=$2
    until "$1" >/dev/null 2>&1; do
        if [ -n "$message" ]; then echo "$name: $message" >&2; fi
        message=
        sleep 1
    done
}

# A container of this name that is somebody else's stays.
stop() {
    id=$(docker container ls --all --quiet --filter "name=^/$name\$" --filter label=devpi.mirror.role=devpi_server)
    if [ -n "$id" ]; then
        docker stop -t 8 "$id"
        docker rm --force "$id"
        # The engine is removing it by itself where it was run with --rm, and does not wait for that.
        tries=50
        while [ "$tries" -gt 0 ] && docker container inspect "$id"; do
            sleep 0.1
            tries=$((tries - 1))
        done
    fi
} >/dev/null 2>&1

case $1 in
run)
    await engine "Waiting for the Docker engine."
    await image "The image $image has been removed. Run the playbook that installed the mirror again: it brings the image back, \
and the mirror starts by itself. All that was cached is still there."
    # A container that a power cut or a lost engine has left would keep the name.
    stop
    # Of its own, as the containers on Docker's default network can reach each other. "docker network prune" removes an unused one.
    if ! docker network inspect "$network" >/dev/null 2>&1; then
        docker network create --label devpi.mirror.role=devpi_server "$network" >/dev/null
    fi
    exec "$docker" run --rm \
        --name devpi --label devpi.mirror.role=devpi_server --label devpi.mirror.config=0123456789abcdef --publish 127.0.0.1:3141:3141 --log-driver json-file --log-opt max-size=10m --log-opt max-file=2 --network devpi-mirror --cap-drop ALL --security-opt no-new-privileges --memory 768m --memory-swap 768m --pids-limit 256 --tmpfs /tmp:rw,nosuid,nodev,noexec,size=16m,mode=1777 --user 53141:53141 --read-only --env-file /etc/devpi-mirror.env --volume devpi-data:/data --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro devpi-mirror:0123456789abcdef
    ;;
stop)
    stop
    ;;
esac
