#!/usr/bin/env python3
"""ringrelay beside its peers, interleaved: deliveries per server CPU-second, and the ratio to the best peer.

    perf/compare.py [--rounds 7] [--seconds 4] [--scenarios w64-64,echo-d1] [--servers ringrelay,bun] [--out DIR]

Each round runs every scenario against every server, both in random order, a fresh server for each run: one core for the
server (all its threads), the other for loadgen. The ratio is taken within a round, to the peer that was best in that
round, so that a host that slows down for a while slows both. As root this happens in a network namespace of its own with
reno as congestion control; otherwise on the machine's loopback, with a warning.

Needs target/release/{ringrelay,loadgen} (`make bench` builds them), npm for Bun, and cargo. Writes compare.json (every
run) and compare.md into DIR (default target/compare). Exit: 0 done, 1 cannot start or a run failed (the rest is kept),
2 usage.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from revisions import ROOT, TARGET, Failure

PEERS = ROOT / "perf" / "peers"
START_SECONDS = 20
STOP_SECONDS = 15
# Beyond its duration a run connects, warms up and drains.
RUN_EXTRA_SECONDS = 60
NAMESPACE_MARK = "RINGRELAY_COMPARE_INSIDE"
# What loadgen's exit codes allow to be counted: the SLO held, or it did not.
FINISHED = (0, 1)


@dataclass(frozen=True)
class Scenario:
    """One load: loadgen's subcommand, path and flags. `is_offered`: a fixed rate, where less CPU is better."""

    name: str
    command: str
    path: str
    flags: tuple
    is_offered: bool = False


def scenarios(subscribers):
    """The loads in the order of the report."""

    def fan_out(name, publishers, size, *flags, is_offered=False):
        everyone = ("--subscribers", str(subscribers), "--publishers", str(publishers), "--size", str(size))
        return Scenario(name, "run", "/", everyone + flags, is_offered)

    def echo(depth):
        return Scenario(f"echo-d{depth}", "echo", "/echo", ("--connections", "100", "--depth", str(depth), "--size", "64"))

    closed = [fan_out(f"w{w}-{size}", 1, size, "--outstanding", str(w)) for w in (1, 64) for size in (64, 512, 4096)]
    crowd = fan_out("p100-w1-64", 100, 64, "--outstanding", "1")
    offered = fan_out("rate500-64", 1, 64, "--rate", "500", is_offered=True)
    return [*closed, crowd, echo(1), echo(16), offered]


@dataclass(frozen=True)
class Server:
    """One program under test: how to make it, and its command line, given a folder for its files."""

    name: str
    prepare: callable
    command: callable
    is_peer: bool = True


def ringrelay(name, driver):
    binary = TARGET / "release" / "ringrelay"

    def command(folder):
        config = folder / "config.yaml"
        config.write_text(
            f"server: {{host: 127.0.0.1, port: 0, shards: 1, driver: {driver}}}\nmetrics: {{enabled: false}}\n"
            "endpoints: [{path: /, mode: relay}, {path: /echo, mode: echo}]\n"
        )
        return [binary, "--config", config]

    return Server(name, lambda: need(binary, "make bench"), command, is_peer=False)


def need(path, maker):
    if not path.exists():
        raise Failure(f"no {path}: run `{maker}`")


def prepare_bun():
    folder = PEERS / "bun"
    if not (folder / "node_modules" / ".bin" / "bun").exists():
        subprocess.run(["npm", "ci", "--silent", "--no-fund", "--no-audit"], cwd=folder, check=True)


def prepare_tokio_tungstenite():
    manifest = PEERS / "tokio-tungstenite" / "Cargo.toml"
    build = ["cargo", "build", "--release", "--locked", "--manifest-path", manifest, "--target-dir", TARGET / "peers"]
    subprocess.run(build, check=True)


SERVERS = [
    ringrelay("ringrelay", "io_uring"),
    ringrelay("ringrelay-epoll", "epoll"),
    Server("bun", prepare_bun, lambda _: [PEERS / "bun/node_modules/.bin/bun", PEERS / "bun/server.js", "0"]),
    Server(
        "tokio-tungstenite",
        prepare_tokio_tungstenite,
        lambda _: [TARGET / "peers/release/peer-tokio-tungstenite", "0"],
    ),
]


class Running:
    """A started server, pinned to one core. Its log is read to the end, so that it never blocks on it."""

    def __init__(self, server, cpu):
        self.folder = Path(tempfile.mkdtemp(prefix="ringrelay-compare-"))
        self.log = []
        self.port = None
        self.listening = threading.Event()
        command = ["taskset", "-c", str(cpu), *map(str, server.command(self.folder))]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        threading.Thread(target=self.read_log, daemon=True).start()
        self.listening.wait(START_SECONDS)
        if self.port is None:
            self.stop()
            raise Failure(f"{server.name} did not listen:\n{''.join(self.log[-20:])}")

    def read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"Listening on \S*:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                self.listening.set()
        self.listening.set()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(server, scenario, options):
    """One run; loadgen's report, with what went wrong, if anything, under `fault`: such a run counts for nothing."""
    try:
        return run_once(server, scenario, options)
    except Failure as failure:
        return {"fault": str(failure)}


def run_once(server, scenario, options):
    running = Running(server, options.server_cpu)
    report = running.folder / "report.json"
    command = [
        "taskset", "-c", str(options.load_cpu), str(TARGET / "release" / "loadgen"), scenario.command,
        "--url", f"ws://127.0.0.1:{running.port}{scenario.path}", *scenario.flags,
        "--duration", f"{options.seconds}s", "--warmup", f"{options.warmup}s",
        "--server-pid", str(running.process.pid), "--json", str(report),
    ]  # fmt: skip
    try:
        limit = options.seconds + options.warmup + RUN_EXTRA_SECONDS
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        if not report.exists():
            raise Failure(f"loadgen ended with {done.returncode} and no report:\n{done.stderr[-2000:]}")
        result = json.loads(report.read_text())
    except subprocess.TimeoutExpired as late:
        raise Failure(f"loadgen did not end within {limit} s") from late
    finally:
        running.stop()
    damage = {key: result[key] for key in ("lost", "duplicated", "reordered", "corrupted") if result.get(key)}
    if damage:
        result["fault"] = str(damage)
    elif done.returncode not in FINISHED:
        result["fault"] = f"exit {done.returncode}, {result.get('verdict')}: {result.get('reasons')}"
    elif not result.get("received") or not result["server"]["cpu_us_per_delivery"]:
        result["fault"] = "nothing was delivered or measured"
    return result


def run_all(chosen, servers, options):
    """Every run as {round, scenario, server, report}."""
    runs = []
    dice = random.Random(options.seed)
    for number in range(options.rounds):
        for scenario in dice.sample(chosen, len(chosen)):
            for server in dice.sample(servers, len(servers)):
                report = measure(server, scenario, options)
                runs.append({"round": number, "scenario": scenario.name, "server": server.name, "report": report})
                outcome = report.get("fault") or f"{cpu_us(report):.4f} µs of CPU per delivery"
                print(f"round {number + 1}/{options.rounds}  {scenario.name:<11} {server.name:<18} {outcome}", flush=True)
    return runs


def cpu_us(report):
    return report["server"]["cpu_us_per_delivery"]


def p50_ms(report):
    latency = report["latency_us"]
    measured = latency.get("response") or latency.get("service") or {}
    return (measured.get("p50") or 0) / 1000


def spread(values):
    """`median (lowest–highest)`"""
    if not values:
        return "–"
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def ratios(runs, name, peers):
    """Per round in which all peers finished: deliveries per CPU-second of `name` over those of the best of them."""
    by_round = {}
    for run in runs:
        by_round.setdefault(run["round"], {})[run["server"]] = run["report"]
    found = []
    for reports in by_round.values():
        if all(server in reports for server in [name, *peers]):
            found.append(min(cpu_us(reports[peer]) for peer in peers) / cpu_us(reports[name]))
    return found


def table(runs, chosen, servers, options):
    """The report in Markdown: rates, ratios with their spread, and latencies."""
    peers = [server.name for server in servers if server.is_peer]
    ours = [server.name for server in servers if not server.is_peer]
    good = [run for run in runs if "fault" not in run["report"]]

    def of(scenario, server):
        return [r["report"] for r in good if (r["scenario"], r["server"]) == (scenario.name, server)]

    def row(cells):
        return "| " + " | ".join(cells) + " |"

    def head(cells):
        return [row(cells), row(["---", *["---:"] * (len(cells) - 1)])]

    names = [server.name for server in servers]
    versus = [f"{name} ÷ best peer" for name in ours] if peers else []
    lines = [f"{options.rounds} rounds of {options.seconds} s, {options.subscribers} subscribers, echo: 100 connections.", ""]
    lines += ["Thousand deliveries per server CPU-second: median. Ratios within each round: median (lowest–highest).", ""]
    lines += head(["scenario", *names, *versus])
    for scenario in chosen:
        mine = [run for run in good if run["scenario"] == scenario.name]
        rates = [[1000 / cpu_us(report) for report in of(scenario, name)] for name in names]
        cells = [f"{statistics.median(rate):,.0f}" if rate else "–" for rate in rates]
        lines.append(row([scenario.name, *cells, *([spread(ratios(mine, name, peers)) for name in ours] if peers else [])]))
    lines += ["", "Latency p50 in ms: median over the rounds (closed loop, but for rate…: from the intended time)."]
    lines += ["", *head(["scenario", *names])]
    for scenario in chosen:
        medians = [[p50_ms(report) for report in of(scenario, name)] for name in names]
        lines.append(row([scenario.name, *[f"{statistics.median(m):.2f}" if m else "–" for m in medians]]))
    offered = [scenario for scenario in chosen if scenario.is_offered]
    if offered:
        lines += ["", "Server CPU at the offered rate, in cores: median."]
        lines += ["", *head(["scenario", *names])]
    for scenario in offered:
        cores = [[cpu_us(r) * r["deliveries_per_s"] / 1e6 for r in of(scenario, name)] for name in names]
        lines.append(row([scenario.name, *[f"{statistics.median(core):.3f}" if core else "–" for core in cores]]))
    faults = [run for run in runs if "fault" in run["report"]]
    if faults:
        lines += ["", f"Left out, {len(faults)} of {len(runs)} runs:", ""]
        lines += [f"- round {r['round'] + 1}, {r['scenario']}, {r['server']}: {r['report']['fault']}" for r in faults]
    return "\n".join(lines) + "\n"


def machine():
    """What the figures were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "own_network_namespace": NAMESPACE_MARK in os.environ,
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def enter_namespace():
    """Runs this script again in a network namespace that ends with it; returns where that cannot be."""
    if NAMESPACE_MARK in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
        return
    if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("ip"):
        os.environ[NAMESPACE_MARK] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    print("warning: not root, or no unshare and ip: measuring on the machine's own loopback", file=sys.stderr)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    cores = sorted(os.sched_getaffinity(0))
    names = [server.name for server in SERVERS]
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="measured time of a run")
    parser.add_argument("--warmup", type=int, default=2, help="seconds before that")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--scenarios", help="comma list of: " + ", ".join(s.name for s in scenarios(0)))
    parser.add_argument("--servers", default=",".join(names), help=f"comma list of: {', '.join(names)}")
    parser.add_argument("--server-cpu", type=int, default=cores[0])
    parser.add_argument("--load-cpu", type=int, default=cores[-1])
    parser.add_argument("--seed", type=int, default=None, help="of the order; default: from the clock")
    parser.add_argument("--out", type=Path, default=TARGET / "compare")
    options = parser.parse_args()
    if options.server_cpu == options.load_cpu:
        parser.error("server and load need a core each")
    chosen = pick(parser, scenarios(options.subscribers), options.scenarios)
    servers = pick(parser, SERVERS, options.servers)
    return options, chosen, servers


def pick(parser, known, names):
    if names is None:
        return known
    unknown = set(names.split(",")) - {item.name for item in known}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(item.name for item in known)}")
    return [item for item in known if item.name in names.split(",")]


def main():
    options, chosen, servers = arguments()
    if NAMESPACE_MARK not in os.environ:
        need(TARGET / "release" / "loadgen", "make bench")
        for server in servers:  # here, since a namespace of its own reaches no registry
            server.prepare()
    enter_namespace()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runs = run_all(chosen, servers, options)
    text = table(runs, chosen, servers, options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "compare.json").write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1))
    described = ", ".join(f"{key} {value}" for key, value in machine().items())
    (options.out / "compare.md").write_text(f"{described}\n\n{text}")
    print(f"\n{text}\n{options.out}/compare.md, compare.json")
    sys.exit(1 if any("fault" in run["report"] for run in runs) else 0)


if __name__ == "__main__":
    try:
        main()
    except (Failure, subprocess.CalledProcessError) as failure:
        print(f"compare: {failure}", file=sys.stderr)
        sys.exit(1)
