#!/usr/bin/env bash
# Where a server's time goes, user and kernel, as a flame graph: perf by the software clock (virtual machines have no
# other), drawn by inferno.
#
#   perf/profile.sh --pid PID [--seconds 10] [--out flame.svg]         a server that runs
#   perf/profile.sh [--seconds 10] [--out flame.svg] [-- LOADGEN…]     ringrelay (release) under loadgen, on a core each;
#                   LOADGEN: subcommand and flags without --url [run --subscribers 1000 --outstanding 1]
#
# Needs perf (Debian: linux-perf) and the right to profile (root, or kernel.perf_event_paranoid ≤ 1 for user time);
# installs inferno from crates.io into target/tools. Of the cores that it may use ringrelay gets the first, loadgen the
# last. Writes also OUT.folded, one line per stack.
# Exit: 0 done, 1 nothing was sampled, 2 usage or set-up
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
INFERNO=0.12.8
TOOLS=$TARGET/tools/inferno-$INFERNO
SAMPLES_PER_SECOND=997 # a prime: in step with nothing
PID='' SECONDS_LONG=10 OUT=flame.svg LOAD=(run --subscribers 1000 --outstanding 1)
die() { echo "profile: $*" >&2; exit 2; }

while [ $# -gt 0 ]; do
  case $1 in
    --pid) PID=${2:?} && shift 2 ;;
    --seconds) SECONDS_LONG=${2:?} && shift 2 ;;
    --out) OUT=${2:?} && shift 2 ;;
    --) shift && LOAD=("$@") && break ;;
    *) sed -n '5,7s/^#   //p' "$0" >&2; exit 2 ;;
  esac
done
command -v perf >/dev/null || die "no perf: apt-get install linux-perf"
[ -x "$TOOLS/bin/inferno-flamegraph" ] || cargo install --quiet --locked --root "$TOOLS" --version "=$INFERNO" inferno ||
  die "inferno $INFERNO cannot be installed from crates.io"

SCRATCH=$(mktemp -d)
STARTED=()
cleanup() {
  for child in "${STARTED[@]}"; do kill "$child" 2>/dev/null || true; done
  wait
  rm -rf "$SCRATCH"
}
trap cleanup EXIT

if [ -z "$PID" ]; then
  . "$ROOT/perf/cores.sh" || exit 2
  for bin in ringrelay loadgen; do [ -x "$TARGET/release/$bin" ] || die "no $TARGET/release/$bin: make build-all"; done
  printf '%s\n' 'server: {host: 127.0.0.1, port: 0, shards: 1}' 'metrics: {enabled: false}' \
    'endpoints: [{path: /, mode: relay}, {path: /echo, mode: echo}]' >"$SCRATCH/config.yaml"
  taskset -c "$SERVER_CORE" "$TARGET/release/ringrelay" --config "$SCRATCH/config.yaml" 2>"$SCRATCH/log" &
  PID=$! STARTED+=("$!")
  # Ends with the line it waits for, or with the server.
  ADDRESS=$(timeout 20 tail -n +1 -F --pid="$PID" "$SCRATCH/log" 2>/dev/null |
    sed -n 's/.*Listening on \([0-9.:]*\).*/\1/p;/Listening on/q') || true
  [ -n "$ADDRESS" ] || die "ringrelay did not listen: $(tail -n 3 "$SCRATCH/log")"
  PATH_OF=/ && [ "${LOAD[0]}" != echo ] || PATH_OF=/echo
  taskset -c "$LOAD_CORE" "$TARGET/release/loadgen" "${LOAD[@]}" --url "ws://$ADDRESS$PATH_OF" --warmup 1s \
    --duration "$((SECONDS_LONG + 5))s" --server-pid "$PID" --quiet >"$SCRATCH/load" 2>&1 &
  STARTED+=("$!")
fi

# Stacks by DWARF: release builds have line tables and no frame pointers.
perf record --quiet -e cpu-clock -F "$SAMPLES_PER_SECOND" --call-graph dwarf,16384 -p "$PID" -o "$SCRATCH/perf.data" \
  -- sleep "$SECONDS_LONG" || die "perf cannot record process $PID"
perf script -i "$SCRATCH/perf.data" 2>"$SCRATCH/script.log" | "$TOOLS/bin/inferno-collapse-perf" --all 2>"$SCRATCH/collapse.log" >"$OUT.folded" ||
  die "the samples cannot be read: $(tail -qn 3 "$SCRATCH/script.log" "$SCRATCH/collapse.log")"
[ -s "$OUT.folded" ] || { echo "profile: no sample: does process $PID do anything?" >&2; exit 1; }
"$TOOLS/bin/inferno-flamegraph" --title "process $PID, $SECONDS_LONG s of CPU clock" <"$OUT.folded" >"$OUT" ||
  die "inferno cannot draw $OUT.folded"
awk '{ total += $NF; if (/_\[k\]/) kernel += $NF }
     END { printf "%.2f s of CPU time sampled, %.1f %% of it in the kernel\n", total / 1e9, 100 * kernel / total }' "$OUT.folded"
echo "$OUT, $OUT.folded"
