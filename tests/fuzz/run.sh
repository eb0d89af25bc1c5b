#!/usr/bin/env bash
# Fuzzing: tests/fuzz/run.sh [SECONDS] [TARGET...]. Every target for its time (600 s by default), and the end at the first finding.
#
# What is found lies in target/fuzz/found/TARGET. Once it is put right, it belongs into tests/fuzz/seeds/TARGET under a name that says what it was: from
# then on `cargo test` runs it. SANITIZER=address looks at memory too; it wants the features of a nightly toolchain, which it opens for itself.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${1:-600}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(ls tests/fuzz/seeds)
fi
if ! command -v cargo-fuzz >/dev/null; then
    cargo install cargo-fuzz --locked
fi
sanitizer=${SANITIZER:-none}
if [ "$sanitizer" != none ]; then
    export RUSTC_BOOTSTRAP=1
fi
build=target/fuzz/build-$sanitizer
cargo fuzz build --fuzz-dir tests/fuzz --sanitizer "$sanitizer" --target-dir "$build" >&2
program=$(ls "$build"/*/release/all)

for target in "${targets[@]}"; do
    corpus=target/fuzz/corpus/$target
    found=target/fuzz/found/$target
    mkdir -p "$corpus" "$found"
    echo "== $target, $seconds s"
    # Faster than a person, and bounded: 20 s for one input, 2 GB for all of it.
    if ! HEIRLOOM_FUZZ=$target "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096 \
        -artifact_prefix="$found/" "$corpus" "tests/fuzz/seeds/$target" >"$found/log" 2>&1; then
        grep -A3 -m1 panicked "$found/log" || tail -n 20 "$found/log"
        echo "$target: see $found"
        exit 1
    fi
    grep -E '^Done' "$found/log"
done
