#!/bin/sh
# Managed by the Ansible role devpi.mirror.devpi_server
# launchd runs the mirror with "run", and stops it with "stop".
name=devpi
docker=/usr/bin/docker
image=devpi-mirror:0123456789abcdef
network=devpi-mirror
user=ada
# Seconds after which a docker command is killed.
limit=10

# docker ARGUMENT...: a hung daemon must not block a stop of the service. macOS has no timeout command.
docker() {
    if command -v timeout >/dev/null; then
        timeout -k 1 "$limit" "$docker" "$@"
    else
        "$docker" "$@"
    fi
}

engine() {
    # Docker Desktop and colima belong to a user, and start when that user logs in. /var/run/docker.sock is a link to the socket of
    # one user. The daemon of another user must not receive the mirror's passwords.
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

# await COMMAND MESSAGE: repeat the command until it succeeds, and print the message once if it fails.
await() {
    message=$2
    until "$1" >/dev/null 2>&1; do
        if [ -n "$message" ]; then echo "$name: $message" >&2; fi
        message=
        sleep 1
    done
}

# A container of this name that the role did not create is left running.
stop() {
    id=$(docker container ls --all --quiet --filter "name=^/$name\$" --filter label=devpi.mirror.role=devpi_server)
    if [ -n "$id" ]; then
        docker stop -t 8 "$id"
        docker rm --force "$id"
        # The daemon removes a container that was run with --rm in the background.
        tries=50
        while [ "$tries" -gt 0 ] && docker container inspect "$id"; do
            sleep 0.1
            tries=$((tries - 1))
        done
    fi
} >/dev/null 2>&1

case $1 in
run)
    await engine "Waiting for the Docker daemon."
    await image "The image $image has been removed. Run the playbook that installed the mirror again: it provides the image, and \
the mirror then starts. Its cached data still exists."
    # After a power failure or a daemon crash, an old container can still have the name.
    stop
    # A dedicated network, as containers on Docker's default network can reach each other. "docker network prune" can have removed it.
    if ! docker network inspect "$network" >/dev/null 2>&1; then
        docker network create --label devpi.mirror.role=devpi_server "$network" >/dev/null
    fi
    exec "$docker" run --rm \
        --name devpi --label devpi.mirror.role=devpi_server --label-file /etc/devpi-mirror.labels --env-file /etc/devpi-mirror.env --publish 127.0.0.1:3141:3141 --log-driver json-file --log-opt max-size=10m --log-opt max-file=2 --network devpi-mirror --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp:rw,nosuid,nodev,noexec,size=16m,mode=1777 --user 53141:53141 --read-only --memory 768m --memory-swap 768m --pids-limit 256 --volume devpi-data:/data --volume /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro devpi-mirror:0123456789abcdef
    ;;
stop)
    stop
    ;;
esac
