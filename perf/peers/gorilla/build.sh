#!/usr/bin/env bash
# Builds TARGET/peer-gorilla with Debian's Go and its package of gorilla/websocket; no network.
#
#   build.sh TARGET      Needs golang-go and golang-github-gorilla-websocket-dev. Exit: 0 built, 1 not, with the reason.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TARGET=${1:?usage: build.sh TARGET}
SOURCES=/usr/share/gocode # where Debian's -dev packages put Go sources
command -v go >/dev/null || { echo "gorilla: no go: install golang-go" >&2; exit 1; }
[ -d "$SOURCES/src/github.com/gorilla/websocket" ] ||
  { echo "gorilla: no sources: install golang-github-gorilla-websocket-dev" >&2; exit 1; }
mkdir -p "$TARGET"
GO111MODULE=off GOPATH=$SOURCES GOCACHE=$TARGET/go-cache go build -o "$TARGET/peer-gorilla" "$HERE/server.go"
