#!/bin/sh
# Makes .venv and installs what is missing: scripts/setup.sh PYTHON REQUIREMENTS. Running it again costs nothing.
set -eu
python=$1
wanted=$2

command -v "$python" >/dev/null 2>&1 || {
    echo "cannot set up: $python is not there; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python" >&2
    exit 2
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "cannot set up: $("$python" --version 2>&1) is too old; install Python 3.11 or newer, or name one: make PYTHON=python3.11" >&2
    exit 2
}
[ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || {
    rm -rf .venv
    "$python" -m venv .venv 2>/dev/null || {
        echo "cannot set up: $python has no venv module (Debian: apt-get install python3-venv)" >&2
        exit 2
    }
}
# What was installed last, by the content of the files that say so; the longer list holds the shorter one.
sum() { cat requirements.txt "$@" | cksum; }
done=.venv/.installed
if [ "$(cat $done-$wanted 2>/dev/null)" != "$(sum "$wanted")" ]; then
    if [ "$wanted" = requirements.txt ] && [ "$(cat $done-requirements-dev.txt 2>/dev/null)" = "$(sum requirements-dev.txt)" ]; then
        exit 0
    fi
    echo "installing $wanted …"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted" || {
        echo "cannot set up: pip could not install $wanted (see above); is the package index reachable?" >&2
        exit 2
    }
    sum "$wanted" >"$done-$wanted"
fi
