#!/bin/sh
# Fuzzes each target for the given number of seconds (60 unless told) on the stable toolchain.
#
# libFuzzer is called without cargo-fuzz or another driver: all it needs of the compiler is coverage, and the flags for that
# are stable. The sanitizers, for which such drivers want nightly by default, would find little where unsafe is forbidden.
# Needs a C++ compiler, for libFuzzer itself. New inputs go to corpus/, findings to artifacts/.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}

# The target is named so that build scripts and macros are built without these flags.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS

for target in decode handshake; do
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "fuzz: $target for $seconds s"
    cargo run --quiet --release --target "$host" --bin "$target" -- -max_total_time="$seconds" -max_len=4096 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 "corpus/$target" "seeds/$target"
done
