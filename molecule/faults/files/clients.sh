#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Clients that never stop: "clients cached" downloads again and again what is cached, "clients new" what no client has requested
# before. Each download is a line of their log, which records the result.
log=$HOME/$1.log
pip="$HOME/probe/bin/pip --disable-pip-version-check download --quiet --no-cache-dir --no-deps --retries 10"
export UV_NO_CACHE=1 UV_HTTP_RETRIES=10 UV_DEFAULT_INDEX=http://127.0.0.1:3141/root/pypi/+simple/

run() {
    if output=$("$@" 2>&1); then echo good; else echo "FAILED $(date +%T) $*: $output" | tr '\n' ' ' | sed 's/$/\n/'; fi >>"$log"
}

number=0
while :; do
    number=$((number + 1))
    case $1 in
    cached)
        rm -rf "$HOME/again"
        run uv pip install --quiet --no-deps --target "$HOME/again" alpha beta large
        # pip takes several times as much of the processors, which the servers need too.
        if [ $((number % 4)) = 0 ]; then run $pip --dest "$HOME/again" alpha beta large; fi
        ;;
    new)
        run $pip --dest "$HOME/new" "new$number"
        sleep 1
        ;;
    esac
    sleep 0.5
done
