#!/usr/bin/env bash
# Autobahn's fuzzing client against the ringrelay binary's /echo, on both drivers at once.
#
#   drivers.sh BIN [DRIVER…]    default drivers: io_uring epoll
#
# Groups 1-7, 9 and 10: all of RFC 6455. Reports: target/autobahn/DRIVER/index.html.
# Exit: 0 all passed, or no Python 2.7 here (then it says so); 1 something failed; 2 it could not be run.
# Last line: N passed, N failed (cases of all drivers), or `SKIPPED autobahn: no Python 2.7`
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
BIN=$(realpath "$1"); shift
[ $# -gt 0 ] || set -- io_uring epoll
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
REPORTS=$ROOT/target/autobahn
export AUTOBAHN_HOME=${AUTOBAHN_HOME:-$ROOT/.cache/autobahn}
CASES='1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.*,10.*'
. "$HERE/../foreign/server.sh"

"$HERE/run.sh" -p >/dev/null 2>&1 || { echo 'SKIPPED autobahn: no Python 2.7'; exit 0; }

# one DRIVER: a server and the suite against it; the result stands in REPORTS/DRIVER/result
one() {
  local out=$REPORTS/$1 code=0
  trap kill_server EXIT
  start_server "$BIN" "$1" false "$out"
  AUTOBAHN_AGENT=$1 "$HERE/run.sh" -t 600 -c "$CASES" "ws://127.0.0.1:$PORT/echo" "$out" || code=$?
  stop_server || { echo "  failed the server ended with $?"; tail -n 20 "$out/log"; [ "$code" != 0 ] || code=1; }
  return "$code"
}

PASSED=0 FAILED=0 WORST=0 RUNS=()
for driver in "$@"; do
  mkdir -p "$REPORTS/$driver"
  (one "$driver") >"$REPORTS/$driver/result" 2>&1 &
  RUNS+=($!)
done
for run in "${RUNS[@]}"; do
  driver=$1 code=0; shift
  wait "$run" || code=$?
  sed "s/^/$driver: /" "$REPORTS/$driver/result"
  sum=$(grep '^cases ' "$REPORTS/$driver/result" || true)
  if [[ $sum =~ ^cases\ ([0-9]+)\ .*\ failed\ ([0-9]+)\  ]]; then
    PASSED=$((PASSED + BASH_REMATCH[1] - BASH_REMATCH[2])) FAILED=$((FAILED + BASH_REMATCH[2]))
    [ "$code" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || FAILED=$((FAILED + 1))
  else
    FAILED=$((FAILED + 1))
  fi
  [ "$code" -le "$WORST" ] || WORST=$code
done
echo "$PASSED passed, $FAILED failed"
[ "$WORST" -le 2 ] || WORST=1
exit "$WORST"
