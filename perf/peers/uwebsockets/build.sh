#!/usr/bin/env bash
# Builds TARGET/peer-uwebsockets from the C++ sources in the crate libuwebsockets-sys, the registries' newest.
#
#   build.sh TARGET      Needs curl, tar, cc and c++ (C++20). Exit: 0 built or there already, 1 not, with the reason.
set -euo pipefail

CRATE=libuwebsockets-sys-0.0.10
SHA256=d51e3baec29ccd68a26e61be5376c35a778f7ebd8584041e7c535e1a80786873
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TARGET=${1:?usage: build.sh TARGET}
BUILT=$TARGET/peer-uwebsockets
if [ "$BUILT" -nt "$HERE/server.cpp" ] && [ "$BUILT" -nt "$HERE/build.sh" ]; then exit 0; fi

for tool in curl tar cc c++; do
  command -v "$tool" >/dev/null || { echo "uwebsockets: no $tool" >&2; exit 1; }
done
WORK=$TARGET/uwebsockets
rm -rf "$WORK"
mkdir -p "$WORK"
curl -fsSL --retry 3 -o "$WORK/crate" "https://static.crates.io/crates/libuwebsockets-sys/$CRATE.crate"
echo "$SHA256  $WORK/crate" | sha256sum --check --quiet
tar -xzf "$WORK/crate" -C "$WORK"
SOURCE=$WORK/$CRATE/uWebSockets
FLAGS=(-O3 -flto -DLIBUS_NO_SSL -DUWS_NO_ZLIB "-I$SOURCE/uSockets/src" "-I$SOURCE/src")
for file in "$SOURCE"/uSockets/src/{bsd,context,loop,socket,udp}.c "$SOURCE"/uSockets/src/eventing/epoll_kqueue.c; do
  cc -std=c11 "${FLAGS[@]}" -c "$file" -o "$WORK/$(basename "$file" .c).o"
done
c++ -std=c++20 "${FLAGS[@]}" "$HERE/server.cpp" "$WORK"/*.o -o "$BUILT"
