#!/usr/bin/env bash
# Whether a binary runs where there is nothing but itself, and still resolves names: from /etc/hosts and by DNS.
#
#   deploy/check-static.sh BINARY        Exit: 0 it does, 1 it does not, 2 no namespaces here. Needs root or user namespaces.
#
# The root is an empty directory with /proc, /etc/hosts and /etc/resolv.conf, as a container runtime mounts them; the network is a
# loopback of its own with a DNS server that knows one name.
set -euo pipefail

BIN=$(realpath "${1:?usage: deploy/check-static.sh BINARY}")
if [ "${2:-}" != inside ]; then
  unshare --net --map-root-user --user true 2>/dev/null || { echo 'no namespaces here' >&2; exit 2; }
  exec unshare --net --map-root-user --user --mount --pid --fork --kill-child "$0" "$BIN" inside
fi

ROOT=$(mktemp -d)
trap 'umount "$ROOT/proc"; rm -rf "$ROOT"' EXIT
ip link set lo up
install -D -m 755 "$BIN" "$ROOT/ringrelay"
mkdir "$ROOT/etc" "$ROOT/proc"
mount -t proc proc "$ROOT/proc"
printf '127.0.0.1 in-hosts.test\n' >"$ROOT/etc/hosts"
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:3\n' >"$ROOT/etc/resolv.conf"

# Answers every A question about in-dns.test with 127.0.0.1, and says NXDOMAIN or nothing found to all others.
exec 3< <(exec python3 - <<'PYTHON'
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    query, client = server.recvfrom(512)
    end = query.index(0, 12) + 5
    question, kind = query[12:end], struct.unpack("!H", query[end - 4:end - 2])[0]
    known = question.startswith(b"\x06in-dns\x04test\x00")
    answer = b"\xc0\x0c" + struct.pack("!HHIH4B", 1, 1, 60, 4, 127, 0, 0, 1) if known and kind == 1 else b""
    flags = 0x8180 if known else 0x8183
    server.sendto(query[:2] + struct.pack("!HHHHH", flags, 1, bool(answer), 0, 0) + question + answer, client)
PYTHON
)
read -r -t 20 _ <&3

coproc SERVER { exec chroot "$ROOT" /ringrelay --host 127.0.0.1 --port 0 --metrics-port 9090 2>&1; }
while IFS= read -r -t 20 line <&"${SERVER[0]}"; do
  echo "$line"
  if [[ $line == *'Admin on '* ]]; then break; fi
done
ask() { chroot "$ROOT" /ringrelay healthcheck "http://$1:9090/readyz"; }
ask 127.0.0.1
ask in-hosts.test
ask in-dns.test
if said=$(ask nowhere.test 2>&1); then echo "nowhere.test was found: $said"; exit 1; fi
echo "$said"
kill "$SERVER_PID"
echo 'runs on an empty root; names from /etc/hosts and by DNS'
