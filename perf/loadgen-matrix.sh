#!/usr/bin/env bash
# loadgen against ringrelay: 1,000 and 15,000 connections, relay and echo, ws and wss, epoll and io_uring (on both sides).
# Every delivery must be accounted for; the table says what it cost.
#
#   loadgen-matrix.sh [OUT]         OUT: folder for the reports and matrix.md, default target/loadgen-matrix
#   CASES='15000 relay wss epoll'   only those whose name matches this (a grep pattern)
#
# The first core that is allowed for the server, the last one for loadgen. As root in a network namespace of its own with reno, since bbr starves
# small senders on loopback. Needs target/release/{ringrelay,loadgen} (`make build-all`), openssl and Python; takes about five
# minutes. Exit: 0 every book balances, 1 one does not, 2 it could not be run.
set -euo pipefail

if [ -z "${LOADGEN_MATRIX_INSIDE:-}" ] && [ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare --net true 2>/dev/null; then
  export LOADGEN_MATRIX_INSIDE=1
  exec unshare --net "$0" "$@"
fi
if [ -n "${LOADGEN_MATRIX_INSIDE:-}" ]; then
  ip link set lo up
  echo reno >/proc/sys/net/ipv4/tcp_congestion_control
else
  echo 'warning: not root, or no unshare and ip: measuring on the machine'\''s own loopback' >&2
fi

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
OUT=${1:-$TARGET/loadgen-matrix}
LOADGEN=$TARGET/release/loadgen
FAILED=0
die() { echo "loadgen-matrix: $*" >&2; exit 2; }
[ -x "$LOADGEN" ] && [ -x "$TARGET/release/ringrelay" ] || die "no $LOADGEN or ringrelay beside it: run \`make build-all\`"
. "$ROOT/engine/tests/foreign/server.sh"
. "$ROOT/perf/cores.sh" || exit 2
WORK=$(mktemp -d)
trap 'kill_server; rm -rf "$WORK"' EXIT
mkdir -p "$OUT"
make_certificate "$WORK" || die 'openssl could not make a certificate'

# server.sh starts the one program that it is given: ringrelay with one shard on its core.
cat >"$WORK/server" <<SH
#!/bin/sh
exec taskset --cpu-list $SERVER_CORE "$TARGET/release/ringrelay" --shards 1 "\$@"
SH
chmod +x "$WORK/server"

# row NAME REPORT: a line of the table; fails if the books do not balance
row() {
  python3 - "$@" <<'PY'
import json, sys
name, path = sys.argv[1:]
r = json.load(open(path))
ms = lambda us: "-" if us is None else f"{us / 1000:.2f}"
c, g, s, lat = r["connections"], r["generator"], r["server"] or {}, r["latency_us"]
number = lambda value, digits: "-" if value is None else f"{value:.{digits}f}"
fits = not r["failure"] and r["received"] == r["expected"] > 0 and r["sent"] == r["scheduled"]
fits = fits and not any(r[key] for key in ("lost", "duplicated", "reordered", "corrupted", "foreign", "misrouted"))
print(f"| {name} | {r['verdict']} | {c['connect_seconds']:.2f} s | {r['received']:,} of {r['expected']:,} "
      f"| {ms(lat['response']['p50'])} / {ms(lat['response']['p99'])} | {ms(lat['lateness']['p99'])} "
      f"| {number(s.get('cpu_us_per_delivery'), 2)} | {number(g['cpu_us_per_received'], 2)} "
      f"| {number(s.get('rss_bytes_per_connection'), 0)} |")
for reason in [r["failure"]] * bool(r["failure"]) + r["reasons"]:
    print(f"{name}: {reason}", file=sys.stderr)
sys.exit(not fits)
PY
}

{
  echo '| connections, mode, protocol, driver | verdict | connected in | deliveries | p50 / p99, ms | lateness p99, ms | server us per delivery | loadgen us per message | server RSS per connection, B |'
  echo '|---|---|---|---|---|---|---|---|---|'
} | tee "$OUT/matrix.md"
for connections in 1000 15000; do
  for mode in relay echo; do
    for protocol in ws wss; do
      for driver in epoll io_uring; do
        name="$connections $mode $protocol $driver"
        grep -q "${CASES:-.}" <<<"$name" || continue
        tls=false; [ "$protocol" = ws ] || tls=true
        start_server "$WORK/server" "$driver" "$tls" "$WORK" || exit 2
        url=$protocol://127.0.0.1:$PORT trust=(--ca "$WORK/cert.pem")
        [ "$protocol" = wss ] || trust=()
        if [ "$mode" = relay ]; then
          # 100,000 and 75,000 deliveries per second.
          rate=$((connections == 1000 ? 100 : 5)) load=(run --url "$url/" --subscribers $((connections - 1)))
        else
          rate=20000 load=(echo --url "$url/echo" --connections "$connections")
        fi
        report="$OUT/${name// /-}.json"
        rm -f "$report"
        : >"$WORK/row"
        : >"$WORK/notes"
        taskset --cpu-list "$LOAD_CORE" "$LOADGEN" "${load[@]}" --rate "$rate" "${trust[@]}" --driver "$driver" --threads 1 \
          --source-ip 127.0.0.2-127.0.0.4 --warmup 2s --duration 5s --quiet --server-pid "$SERVER" --json "$report" >"$WORK/out" 2>&1 || true
        if [ -s "$report" ] && row "$name" "$report" >"$WORK/row" 2>"$WORK/notes"; then :; else FAILED=1; cat "$WORK/out" >&2; fi
        cat "$WORK/notes" >&2
        tee -a "$OUT/matrix.md" <"$WORK/row"
        stop_server || { FAILED=1; echo "$name: the server did not end with 0" >&2; }
      done
    done
  done
done
echo "$OUT/matrix.md"
exit "$FAILED"
