#!/usr/bin/env bash
# What is in deploy/, as far as it can be seen without Docker, a kubelet and a running systemd.
#
#   deploy/lint.sh BINARY        Exit: 0 all passed, 1 something failed. Last line: N passed, N failed
#
# Needs what .ci/deps installs: hadolint and kubernetes-validate (PyPI), systemd-analyze, libseccomp for Python (Debian).
set -euo pipefail

BIN=$(realpath "${1:?usage: deploy/lint.sh BINARY}")
cd "$(dirname "${BASH_SOURCE[0]}")"
VENV=$PWD/../.cache/deploy-venv
SCRATCH=$(mktemp -d)
PASSED=0 FAILED=0 SERVER='' SERVER_SECONDS=20
trap 'rm -rf "$SCRATCH"' EXIT

# check NAME COMMAND…: fails at the first command that does; the output is shown only then
check() {
  local code
  set +e # a condition would switch it off within the command too
  (set -e; trap stop_server EXIT; "${@:2}") >"$SCRATCH/log" 2>&1
  code=$?
  set -e
  if [ "$code" = 0 ]; then
    PASSED=$((PASSED + 1)); echo "ok    $1"
  else
    FAILED=$((FAILED + 1)); echo "FAIL  $1"; sed 's/^/      /' "$SCRATCH/log"
  fi
}
stop_server() { if [ -n "$SERVER" ]; then kill -KILL "$SERVER" 2>/dev/null || true; fi; }

# The unit as it will stand on a machine where the binary is installed.
unit() {
  sed "s|^ExecStart=/usr/local/bin/ringrelay|ExecStart=$BIN|" ringrelay.service >"$SCRATCH/ringrelay.service"
  grep -q "^ExecStart=$BIN" "$SCRATCH/ringrelay.service"
}
verify_unit() {
  local said
  unit
  # Other units of the machine may have faults of their own; said about ours is what names it.
  said=$(systemd-analyze verify --man=no "$SCRATCH/ringrelay.service" 2>&1) || { echo "$said"; return 1; }
  if grep -F ringrelay.service <<<"$said"; then return 1; fi
}
harden_unit() { unit; systemd-analyze security --offline=yes --threshold=20 "$SCRATCH/ringrelay.service"; }

# The configuration that a ConfigMap carries.
config_map() {
  "$VENV/bin/python" -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["data"]["config.yaml"])' "$1" >"$SCRATCH/k8s.yaml"
  "$BIN" check --config "$SCRATCH/k8s.yaml"
}

# A certificate for the example, which names files that are not here.
tls_example() {
  local example=$SCRATCH/tls.yaml
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
    -keyout "$SCRATCH/key.pem" -out "$SCRATCH/cert.pem" 2>/dev/null
  sed "s|cert_file: [^ ]*|cert_file: $SCRATCH/cert.pem|; s|key_file: [^ ]*|key_file: $SCRATCH/key.pem|; s|port: 443 |port: 0 |
    s|^metrics:|metrics:\n  port: 0|" tls.example.yaml >"$example"
  "$BIN" check --config tls.example.yaml
  serve_and_ask https "$BIN" --config "$example"
}

# serve_and_ask SCHEME COMMAND…: starts a server, sees that it answers on its port, and ends it; its log is in $SCRATCH/server.log
serve_and_ask() {
  local scheme=$1 line port='' status code=0 deadline=$((SECONDS + SERVER_SECONDS))
  exec 4< <(exec "${@:2}" 2>&1 >/dev/null)
  SERVER=$!
  : >"$SCRATCH/server.log"
  while [ -z "$port" ] && IFS= read -r -t $((deadline > SECONDS ? deadline - SECONDS : 1)) line <&4; do
    echo "$line" | tee -a "$SCRATCH/server.log"
    if [[ $line =~ Listening\ on\ [^\ ]*:([0-9]+) ]]; then port=${BASH_REMATCH[1]}; fi
  done
  [ -n "$port" ]
  status=$(curl -sk -o /dev/null -w '%{http_code}' --max-time "$SERVER_SECONDS" "$scheme://localhost:$port/rooms/a" || true)
  kill "$SERVER"
  cat <&4
  wait "$SERVER" || code=$?
  SERVER=''
  echo "answered $status (426 expected), exit code $code"
  [ "$status" = 426 ]
  [ "$code" = 0 ]
}

local_server() { serve_and_ask http "$@" --host 127.0.0.1 --port 0 --metrics-port 0 --config "$SCRATCH/local.yaml"; }
under_profile() { local_server ./under-seccomp.py seccomp.json "$BIN" --driver io_uring; }
# The opposite: without its first entry the profile forbids io_uring.
without_the_entry() {
  "$VENV/bin/python" - "$SCRATCH/without.json" <<'PYTHON'
import json, sys
profile = json.load(open("seccomp.json"))
profile["syscalls"] = [entry for entry in profile["syscalls"] if "io_uring_setup" not in entry["names"]]
json.dump(profile, open(sys.argv[1], "w"))
PYTHON
  local_server ./under-seccomp.py "$SCRATCH/without.json" "$BIN" --driver auto
  grep 'no io_uring, serving by epoll: a seccomp filter forbids' "$SCRATCH/server.log"
}

printf 'endpoints: [{path: "/rooms/{topic}", mode: relay}]\nmetrics: {host: 127.0.0.1}\n' >"$SCRATCH/local.yaml"

check 'hadolint Dockerfile' "$VENV/bin/hadolint" Dockerfile
for manifest in k8s/*.yaml; do
  check "kubernetes-validate $manifest" "$VENV/bin/kubernetes-validate" --strict "$manifest"
done
check 'the configuration in k8s/server-config.yaml' config_map k8s/server-config.yaml
check 'systemd-analyze verify' verify_unit
check 'systemd-analyze security' harden_unit
check 'tls.example.yaml is served' tls_example
check 'io_uring under seccomp.json' under_profile
check 'epoll under seccomp.json without its first entry' without_the_entry

echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
