#!/usr/bin/env bash
# curl against ringrelay: its upgrade, a frame off the wire, and the answers to requests that are no upgrade.
#
#   curl.sh URL [CA_FILE]       URL: ws://HOST:PORT or wss://HOST:PORT, without a path
set -euo pipefail

URL=http${1#ws} CA=${2:-}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
PASSED=0 FAILED=0
KEY=dGhlIHNhbXBsZSBub25jZQ==            # RFC 6455, section 1.3
ACCEPT=s3pPLMBiTxaQ9kYGzzhZRbK+xOo=

request() { curl --silent --show-error --http1.1 --max-time 20 ${CA:+--cacert "$CA"} "$@"; }

# upgrade [CURL OPTION…] PATH: an opening handshake; options may replace headers
upgrade() {
  request --include --no-buffer -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
    -H "Sec-WebSocket-Key: $KEY" "${@:1:$#-1}" "$URL${!#}"
}

# check NAME COMMAND…
check() {
  if "${@:2}" >"$WORK/out" 2>&1; then
    PASSED=$((PASSED + 1)); echo "ok      curl: $1"
  else
    FAILED=$((FAILED + 1)); echo "FAILED  curl: $1"; sed 's/^/        /' "$WORK/out"
  fi
}

# status WANTED [CURL OPTION…] PATH: the answer's status; its headers stay in $WORK/head
status() {
  local got
  got=$(request -o "$WORK/body" -D "$WORK/head" -w '%{http_code}' "${@:2:$#-2}" "$URL${!#}")
  [ "$got" = "$1" ] || { echo "status $got, wanted $1"; cat "$WORK/head"; return 1; }
}

header() { grep -qi "^$1" "$WORK/head" || { echo "no header $1"; cat "$WORK/head"; return 1; }; }

# The server answers 101 with the key's digest; curl hands on what follows, here a text frame: FIN, no mask, JSON.
opens() {
  local all curl LC_ALL=C
  exec 3< <(upgrade '/echo?headers=1')
  curl=$!
  IFS= read -r -t 20 -d '}' all <&3 || { echo "no frame: ${all@Q}"; exec 3<&-; return 1; }
  exec 3<&-
  kill "$curl" 2>/dev/null || true
  [[ $all == 'HTTP/1.1 101 '* ]] || { echo "no 101: ${all@Q}"; return 1; }
  [[ ${all,,} == *"sec-websocket-accept: ${ACCEPT,,}"* && $all == *"$ACCEPT"* ]] || { echo "wrong accept: ${all@Q}"; return 1; }
  [[ $all == *$'\r\n\r\n\x81'[$'\x01'-$'\x7e']*'{'*'"upgrade":"websocket"'* ]] || { echo "no unmasked text frame: ${all@Q}"; return 1; }
}

page() { status 200 / && header 'content-type: text/html' && header 'content-security-policy:' && grep -q '<title>ringrelay' "$WORK/body"; }
wrong_version() {
  status 426 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 12' -H "Sec-WebSocket-Key: $KEY" /echo \
    && header 'sec-websocket-version: 13'
}
no_upgrade() { status 426 /echo && header 'sec-websocket-version: 13'; }

check 'the upgrade stands and the first frame follows' opens
check 'GET / is the demo page' page
check 'a WebSocket path without Upgrade is 426' no_upgrade
check 'version 12 is 426 and names 13' wrong_version
check 'an unknown path is 404' status 404 /no/such/path
check 'POST / is 405' status 405 -X POST /
check 'a handshake without a key is 400' status 400 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' /echo
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
