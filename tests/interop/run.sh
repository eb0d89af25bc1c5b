#!/usr/bin/env bash
# Real clients and servers against the supervised proxy: gRPC (grpcio), WebSockets (websockets), curl, nghttp2's h2load, nginx as a host, a browser.
# Python's packages go into a folder of their own below the target directory, the browser (Debian's chromium) where root may install packages; what
# cannot be installed or is not there is named and skipped.
#
#   tests/interop/run.sh            with the release binaries, or those in HEIRLOOM_BIN_DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
bin="${HEIRLOOM_BIN_DIR:-$PWD/target/release}"
for program in heirloom heirloom-supervisor; do
    [ -x "$bin/$program" ] || { echo "skipped: $bin/$program is not built"; exit 0; }
done
command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 0; }
venv="${CARGO_TARGET_DIR:-$PWD/target}/interop-venv"
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv" || { echo "skipped: python3 makes no virtual environment here"; exit 0; }
fi
"$venv/bin/python" -c 'import grpc, websockets' 2>/dev/null ||
    "$venv/bin/pip" install --quiet --disable-pip-version-check grpcio websockets ||
    { echo "skipped: grpcio and websockets cannot be installed"; exit 0; }
timeout 180 "$venv/bin/python" tests/interop/run.py "$bin"
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 || true
fi
export PYTHONDONTWRITEBYTECODE=1
exec timeout 300 "$venv/bin/python" tests/interop/browser.py "$bin"
