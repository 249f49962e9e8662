#!/usr/bin/env bash
# WebSocket clients that nobody here wrote against the ringrelay binary: Python `websockets` and `aiohttp`, node `ws`, curl;
# echo, fan-out and HTTP answers, on ws and wss, on both drivers; and an application of wsgateway's with ioredis.
#
#   run.sh BIN [DRIVER…]        default drivers: io_uring epoll
#
# Needs what `make deps` installs. FOREIGN_PYTHON names another Python with requirements.txt installed.
# Exit: 0 all passed, 1 something failed, 2 it could not be run. Last line: N passed, N failed
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,9p' "$0" >&2; exit 2; }
BIN=$(realpath "$1"); shift
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${FOREIGN_PYTHON:-$HERE/../../../.cache/foreign-venv/bin/python}
SUITE_SECONDS=240
WORK=$(mktemp -d)
PASSED=0 FAILED=0
. "$HERE/server.sh"
trap 'kill_server; rm -rf "$WORK"' EXIT

die() { echo "foreign clients: $*" >&2; exit 2; }
[ -x "$BIN" ] || die "no binary at $BIN"
[ -x "$PYTHON" ] || die "no Python at $PYTHON: run \`make deps\`"
[ -d "$HERE/node_modules/ws" ] || die "no node_modules: run \`make deps\`"

make_certificate "$WORK" || die 'openssl could not make a certificate'

# stop NAME: SIGTERM must end the server with 0 in time
stop() {
  local code=0
  stop_server || code=$?
  if [ "$code" = 0 ]; then
    PASSED=$((PASSED + 1)); echo "ok      $1: SIGTERM ends the server with 0"
  else
    FAILED=$((FAILED + 1)); echo "FAILED  $1: the server ended with $code"
  fi
}

# suite NAME COMMAND…: adds the sums of its last line
suite() {
  local code=0 sum
  timeout -k 5 "$SUITE_SECONDS" "${@:2}" </dev/null >"$WORK/out" 2>&1 || code=$?
  sed "s/^\(ok      \|FAILED  \)/\1$1: /; /^[0-9]* passed, [0-9]* failed$/d" "$WORK/out"
  sum=$(tail -n 1 "$WORK/out")
  if [[ $sum =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    PASSED=$((PASSED + BASH_REMATCH[1])) FAILED=$((FAILED + BASH_REMATCH[2]))
  else
    FAILED=$((FAILED + 1)); echo "FAILED  $1: ${*:2:2} ended with $code and no sum"
  fi
}

[ $# -gt 0 ] || set -- io_uring epoll
for driver in "$@"; do
  for tls in false true; do
    start_server "$BIN" "$driver" "$tls" "$WORK" || exit 2
    if [ "$tls" = true ]; then url=wss://127.0.0.1:$PORT ca=("$WORK/cert.pem"); else url=ws://127.0.0.1:$PORT ca=(); fi
    name="$driver ${url%%:*}"
    before=$FAILED
    suite "$name" "$PYTHON" "$HERE/echo.py" "$url" "${ca[@]}"
    suite "$name" node "$HERE/echo.mjs" "$url" "${ca[@]}"
    suite "$name" "$PYTHON" "$HERE/fan_out.py" "$url" "${ca[@]}"
    suite "$name" "$HERE/curl.sh" "$url" "${ca[@]}"
    stop "$name"
    if [ "$FAILED" != "$before" ]; then echo "--- the server's log ($name)"; tail -n 40 "$WORK/log"; fi
  done
done
for driver in "$@"; do
  suite "$driver" node "$HERE/wsgateway.mjs" "$BIN" "$driver"
done
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
