# SPDX-License-Identifier: GPL-3.0-or-later
# Download a package from the configured index, whose URL is the first argument, with the oldest pip that runs on each Python, and with
# its newest. The Pythons are the other arguments.
index=$1
shift
mirror=http://127.0.0.1:3141/root/pypi/+simple/
mkdir -p ~/.local/pips
cd ~/.local/pips
for python in "$@"; do
    test -x "$python" || continue
    prefix=${python%/bin/python3}
    # A relocated Python does not find its library otherwise.
    export LD_LIBRARY_PATH="$prefix/lib"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case $version in
    3.8 | 3.9) oldest=9.0.3 ;;
    3.10 | 3.11) oldest=19.3.1 ;;
    *) oldest=23.1.2 ;;
    esac
    rm -rf venv
    "$python" -m venv venv
    for wanted in "pip==$oldest" "--upgrade pip"; do
        PIP_CONFIG_FILE=/dev/null \
            venv/bin/python -m pip --disable-pip-version-check install --quiet --retries 5 --index-url "$mirror" $wanted
        rm -rf downloads
        venv/bin/python -m pip --disable-pip-version-check download --verbose --no-cache-dir --no-deps --dest downloads six >log 2>&1 ||
            { cat log; exit 1; }
        grep -q "$index" log
        # A package policy hides newer releases.
        ls downloads/six-1.16.0-*.whl >/dev/null
        echo "Python $version: $(venv/bin/python -m pip --version | cut -d ' ' -f 1-2)"
    done
done
