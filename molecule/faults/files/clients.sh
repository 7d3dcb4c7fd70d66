#!/bin/sh
# Clients that never stop: "clients cached" installs again and again what is cached, "clients new" what nobody has had before.
# Each installation is a line of their log, which says how it ended.
log=$HOME/$1.log
pip="$HOME/probe/bin/pip --disable-pip-version-check download --quiet --no-cache-dir --no-deps --retries 10"
export UV_NO_CACHE=1 UV_HTTP_RETRIES=10 UV_DEFAULT_INDEX=http://localhost:3141/root/pypi/+simple/

run() {
    if said=$("$@" 2>&1); then echo good; else echo "FAILED $(date +%T) $*: $said" | tr '\n' ' ' | sed 's/$/\n/'; fi >>"$log"
}

number=0
while :; do
    case $1 in
    cached)
        rm -rf "$HOME/again"
        run $pip --dest "$HOME/again" alpha beta large
        run uv pip install --quiet --no-deps --target "$HOME/again" alpha beta large
        ;;
    new)
        number=$((number + 1))
        run $pip --dest "$HOME/new" "new$number"
        ;;
    esac
    sleep 0.3
done
