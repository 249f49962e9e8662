#!/usr/bin/env python3
"""A gateway's POST /send beside relay mode's fan-out: deliveries per server CPU-second, interleaved.

    perf/gateway_send.py [--rounds 5] [--connections 1000] [--messages 400] [--size 64] [--out FILE]

Each round runs both, in random order, a fresh server for each: the server on one core, this script, which is all the
clients, on the other. One message is outstanding: the next is sent once every connection has the last. So relay and
gateway do the same work but for the request and its answer. As root in a network namespace of its own.

Needs target/release/ringrelay. Exit: 0 done, 1 something failed.
"""

import argparse
import json
import os
import random
import select
import socket
import statistics
import sys
from pathlib import Path

import compare
from revisions import TARGET, Failure
from scenarios import Scenario
from servers import Server, need

TICKS = os.sysconf("SC_CLK_TCK")
UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CONFIG = """
server: {host: 127.0.0.1, port: 0, shards: 1, demo_page: false}
metrics: {enabled: false}
endpoints: [{path: /relay, mode: relay}, {path: /connect, mode: gateway, set_tags: {room: a}}]
"""
BINARY = TARGET / "release" / "ringrelay"
# Longer than a run of any length that makes sense here.
PATIENCE_SECONDS = 60


def upgraded(port, path):
    """A WebSocket on which nothing was sent yet."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(UPGRADE.format(path).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    assert head.startswith(b"HTTP/1.1 101"), head
    return sock


def masked(payload):
    """A client's text frame with the masking key 0."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + payload


def cpu_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def command(folder, _):
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    return [BINARY, "serve", "--config", config]


def run_once(kind, options):
    """Deliveries per CPU-second of one server."""
    server = Server("ringrelay", "", None, command)
    running = compare.Running(server, Scenario(kind, "", "", ()), options)
    try:
        return drive(kind, running, options)
    finally:
        running.stop()


def drive(kind, running, options):
    port, pid = running.port, running.process.pid
    payload = b"x" * options.size
    receivers = [upgraded(port, "/relay" if kind == "relay" else "/connect") for _ in range(options.connections)]
    poll = select.epoll()
    by_fd = {}
    for sock in receivers:
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
        by_fd[sock.fileno()] = sock
    if kind == "relay":
        sender, message = receivers[0], masked(payload)
    else:
        sender = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        head = f"POST /send?room=a HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {options.size}\r\n\r\n"
        message = head.encode() + payload
    frame = options.size + (2 if options.size < 126 else 4)
    warm_up = options.messages // 10
    for number in range(warm_up + options.messages):
        if number == warm_up:
            before = cpu_ticks(pid)
        sender.sendall(message)
        missing = frame * options.connections
        while missing > 0:
            ready = poll.poll(PATIENCE_SECONDS)
            if not ready:
                raise Failure(f"{missing} bytes did not come")
            for fd, _ in ready:
                missing -= len(by_fd[fd].recv(65536))
        if kind == "gateway":
            answer = sender.recv(4096).decode()
            assert answer.endswith(f"\r\n\r\n{options.connections}"), answer
    used = (cpu_ticks(pid) - before) / TICKS
    for sock in receivers:
        sock.close()
    return options.messages * options.connections / used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.server_cpu, options.load_cpu = compare.two_cores()
    need(BINARY, "make build-all")
    compare.enter_namespace()
    os.sched_setaffinity(0, {options.load_cpu})
    rounds = []
    for number in range(options.rounds):
        kinds = ["relay", "gateway"]
        random.shuffle(kinds)
        runs = {kind: run_once(kind, options) for kind in kinds}
        rounds.append(runs)
        print(f"round {number + 1}: relay {runs['relay']:,.0f}, gateway {runs['gateway']:,.0f} deliveries per CPU-second,"
              f" ratio {runs['gateway'] / runs['relay']:.3f}", flush=True)
    ratios = sorted(runs["gateway"] / runs["relay"] for runs in rounds)
    print(f"gateway to relay: median {statistics.median(ratios):.3f} ({ratios[0]:.3f}–{ratios[-1]:.3f})")
    if options.out:
        options.out.write_text(json.dumps({"options": {**vars(options), "out": None}, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"gateway_send: {failure}")
