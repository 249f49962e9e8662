#!/usr/bin/env bash
# One scenario, unchanged, against servers that nobody here wrote (node `ws`, Python `websockets`, Bun) and against ringrelay:
# every delivery is accounted for, on both drivers, and an echo comes back whole.
#
#   run.sh LOADGEN RINGRELAY
#
# Needs what `make deps` installs. FOREIGN_PYTHON names another Python with `websockets` installed.
# Exit: 0 all passed, 1 something failed, 2 it could not be run. Last line: N passed, N failed
set -euo pipefail

[ $# = 2 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
LOADGEN=$(realpath "$1") RINGRELAY=$(realpath "$2")
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$HERE/../../..
PYTHON=${FOREIGN_PYTHON:-$ROOT/.cache/foreign-venv/bin/python}
BUN=$ROOT/perf/peers/bun/node_modules/.bin/bun
RUN_SECONDS=60 START_SECONDS=20
WORK=$(mktemp -d)
PASSED=0 FAILED=0 SERVER=
stop() { if [ -n "$SERVER" ]; then kill -KILL "$SERVER" 2>/dev/null || true; wait "$SERVER" 2>/dev/null || true; SERVER=; fi; }
trap 'stop; rm -rf "$WORK"' EXIT

die() { echo "foreign servers: $*" >&2; exit 2; }
[ -x "$PYTHON" ] || die "no Python at $PYTHON: run \`make deps\`"
[ -d "$ROOT/engine/tests/foreign/node_modules/ws" ] || die "no node_modules: run \`make deps\`"

# start COMMAND…: sets SERVER (process id) and PORT, read from its log
start() {
  local line deadline=$((SECONDS + START_SECONDS))
  exec 4< <(exec "$@" 2>&1 >/dev/null)
  SERVER=$! PORT=
  : >"$WORK/log"
  while [ -z "$PORT" ] && IFS= read -r -t $((deadline > SECONDS ? deadline - SECONDS : 1)) line <&4; do
    echo "$line" >>"$WORK/log"
    if [[ $line =~ Listening\ on\ [^\ ]*:([0-9]+) ]]; then PORT=${BASH_REMATCH[1]}; fi
  done
  [ -n "$PORT" ] || { cat "$WORK/log" >&2; die "$1 did not listen"; }
  cat <&4 >>"$WORK/log" &
}

# check NAME ARGUMENT…: a run of loadgen whose books must balance
check() {
  local name=$1 code=0 wrong; shift
  timeout -k 5 "$RUN_SECONDS" "$LOADGEN" "$@" --server-pid "$SERVER" --quiet --json "$WORK/report.json" \
    </dev/null >"$WORK/out" 2>&1 || code=$?
  # 3: this machine was too busy for its latencies to count; the books must balance all the same.
  if [ "$code" != 0 ] && [ "$code" != 3 ]; then wrong="exit $code: $(tail -n 3 "$WORK/out")"
  elif wrong=$("$PYTHON" "$HERE/judge.py" "$WORK/report.json" 2>&1); then
    PASSED=$((PASSED + 1)); echo "ok      $name"
    return
  fi
  FAILED=$((FAILED + 1)); echo "FAILED  $name: $wrong"; tail -n 20 "$WORK/log"
}

DRIVERS=(epoll io_uring)
if "$LOADGEN" echo --url ws://127.0.0.1:1/ --driver io_uring 2>&1 | grep -q 'io_uring is not allowed'; then DRIVERS=(epoll); fi

# check_all NAME COMMAND…: everything against one server
check_all() {
  start "${@:2}"
  for driver in "${DRIVERS[@]}"; do
    check "$1: the scenario, $driver" run "$HERE/scenario.yaml" --url "ws://127.0.0.1:$PORT/{topic}" --driver "$driver"
  done
  check "$1: an echo, 4 at a time" echo --url "ws://127.0.0.1:$PORT/echo" --connections 20 --depth 4 --size 1000 --warmup 100ms --duration 500ms
  stop
}

cat >"$WORK/config.yaml" <<'YAML'
server: {host: 127.0.0.1, port: 0}
metrics: {enabled: false}
endpoints: [{path: /echo, mode: echo}, {path: "/{topic}", mode: relay}]
YAML
check_all 'node ws' node "$HERE/ws.mjs"
check_all 'Python websockets' "$PYTHON" "$HERE/websockets_server.py"
if [ -x "$BUN" ]; then check_all Bun "$BUN" "$HERE/bun.js"; else echo "SKIPPED Bun: the npm registry had no program for this machine"; fi
check_all ringrelay "$RINGRELAY" --config "$WORK/config.yaml"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
