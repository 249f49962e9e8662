# Sourced by the runners beside and near this file: starts the ringrelay binary for a test, and stops it.
# Port and readiness are read from the server's log, never guessed.

START_SECONDS=20 STOP_SECONDS=15

# make_certificate DIR: a self-signed pair for 127.0.0.1 and localhost, DIR/cert.pem and DIR/key.pem
make_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext 'subjectAltName=IP:127.0.0.1,DNS:localhost' -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
}

# start_server BIN DRIVER TLS DIR: sets SERVER (process id) and PORT; the log is kept in DIR/log. Fails if it does not listen.
start_server() {
  local line deadline=$((SECONDS + START_SECONDS))
  cat >"$4/config.yaml" <<YAML
server: {host: 127.0.0.1, port: 0, shards: 2, driver: $2, tls: {enabled: $3, cert_file: $4/cert.pem, key_file: $4/key.pem}}
metrics: {enabled: false}
YAML
  exec 4< <(exec "$1" --config "$4/config.yaml" 2>&1 >/dev/null)
  SERVER=$! PORT=
  : >"$4/log"
  while [ -z "$PORT" ] && IFS= read -r -t $((deadline > SECONDS ? deadline - SECONDS : 1)) line <&4; do
    echo "$line" >>"$4/log"
    if [[ $line =~ Listening\ on\ [^\ ]*:([0-9]+) ]]; then PORT=${BASH_REMATCH[1]}; fi
  done
  [ -n "$PORT" ] || { cat "$4/log" >&2; echo "$1 did not listen (driver $2, tls $3)" >&2; return 1; }
  cat <&4 >>"$4/log" &
}

# stop_server: SIGTERM; returns the server's exit code, or 137 if it had to be killed
stop_server() {
  local code=0
  kill -TERM "$SERVER" 2>/dev/null || true
  timeout "$STOP_SECONDS" tail --pid="$SERVER" -f /dev/null || kill -KILL "$SERVER"
  wait "$SERVER" || code=$?
  SERVER=
  exec 4<&-
  return "$code"
}

# kill_server: for a trap
kill_server() { if [ -n "${SERVER:-}" ]; then kill -KILL "$SERVER" 2>/dev/null || true; fi; }
