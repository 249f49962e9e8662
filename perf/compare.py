#!/usr/bin/env python3
"""ringrelay beside its peers, interleaved: what a delivery costs the server, and the ratio to the best peer.

    perf/compare.py [--rounds 7] [--seconds 4] [--scenarios w64-64,echo-d1] [--servers ringrelay,bun] [--out DIR]
    perf/compare.py --servers all --name peers        every peer that can be made here; the others with the reason
    perf/compare.py --list                            the scenarios and servers that there are

Each round runs every scenario against every server, both in random order, a fresh server for each run: one core for the
server (all its threads), the other for loadgen. The ratio is taken within a round, to the peer that was best in that
round, so that a host that slows down for a while slows both. As root this happens in a network namespace of its own with
reno as congestion control; otherwise on the machine's loopback, with a warning.

Needs target/release/{ringrelay,loadgen} (`make build-all`) and what the chosen peers need (perf/servers.py). Writes
NAME.md, NAME.svg, NAME.json (every report) and NAME.csv (every run in a line) into DIR (default target/compare), also when
it is stopped by SIGINT or SIGTERM. Exit: 0 done, 1 cannot start or a run failed (the rest is kept), 2 usage.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import plot
import report
from revisions import ROOT, TARGET, Failure, capture
from scenarios import CONNECTION, DELIVERY, MEMORY, scenarios
from servers import NOT_MEASURED, SERVERS, need

START_SECONDS = 20
STOP_SECONDS = 15
# Beyond its duration a run connects, warms up and drains.
RUN_EXTRA_SECONDS = 60
# Two loadgens begin together once both have connected.
LINE_UP_SECONDS = 10
# A server has done what it had to when it took less CPU time than this in that time.
QUIET_NS, QUIET_SECONDS = 1_000_000, 0.1
NAMESPACE_MARK = "RINGRELAY_COMPARE_INSIDE"
# What loadgen's exit codes allow to be counted: the SLO held, or it did not.
FINISHED = (0, 1)
COST_NAMES = {
    DELIVERY: "µs of CPU time per delivery",
    CONNECTION: "µs of CPU time per connection",
    MEMORY: "B per connection",
}


class Running:
    """A started server, pinned to its core. Its log is read to the end, so that it never blocks on it."""

    def __init__(self, server, scenario, options):
        self.folder = Path(tempfile.mkdtemp(prefix="ringrelay-compare-"))
        self.listens = re.compile(server.listens)
        self.log = []
        self.port = None
        self.listening = threading.Event()
        cores = [options.server_cpu, options.load_cpu] if server.has_both_cores else [options.server_cpu]
        pinned = ["taskset", "-c", ",".join(map(str, cores))]
        command = [*pinned, *map(str, server.command(self.folder, scenario.is_tls))]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            threading.Thread(target=self.read_log, daemon=True).start()
            self.listening.wait(START_SECONDS)
            if self.port is None:
                raise Failure(f"{server.name} did not listen: {' / '.join(self.log[-5:])}")
        except BaseException:
            self.stop()
            raise

    def read_log(self):
        for line in self.process.stderr:
            self.log.append(line.strip())
            found = self.listens.search(line)
            if found and self.port is None:
                self.port = int(found.group(1) if found.lastindex else (self.folder / "port").read_text())
                self.listening.set()
        self.listening.set()

    def cpu_ns(self):
        """CPU time of all its threads since they began."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)

    def settled_cpu_ns(self):
        """The same, once it has nothing left to do."""
        before, now = 0, self.cpu_ns()
        while now - before > QUIET_NS:
            time.sleep(QUIET_SECONDS)
            before, now = now, self.cpu_ns()
        return now

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(server, scenario, options):
    """One run as {report, cost, fault?}; with a fault it counts for nothing."""
    try:
        if lacks := server.unable(scenario):
            return {"report": {}, "fault": f"cannot do this: {lacks}", "is_unable": True}
        running = Running(server, scenario, options)
        try:
            return run_once(running, scenario, options)
        finally:
            running.stop()
    except Failure as failure:
        return {"report": {}, "fault": str(failure)}
    except Exception as odd:
        # One report that is not as expected is no reason to lose the others.
        return {"report": {}, "fault": f"{type(odd).__name__}: {odd}"}


def loadgen(running, command, path, flags, options, scenario, json_file):
    """A loadgen's command line."""
    scheme, trust = ("wss", ["--insecure"]) if scenario.is_tls else ("ws", [])
    url = f"{scheme}://127.0.0.1:{running.port}{path}"
    pinned = ["taskset", "-c", str(options.load_cpu), str(TARGET / "release" / "loadgen")]
    if command != "idle":
        flags = [*flags, "--duration", f"{options.seconds}s", "--warmup", f"{options.warmup}s"]
    return [
        *pinned,
        command,
        *flags,
        "--url",
        url,
        *trust,
        "--server-pid",
        str(running.process.pid),
        "--json",
        str(json_file),
    ]


def run_once(running, scenario, options):
    main, beside = running.folder / "report.json", running.folder / "beside.json"
    flags = list(scenario.flags)
    if scenario.groups:
        file = running.folder / "scenario.yaml"
        file.write_text(f"groups: [{scenario.groups}]\n")
        flags.append(str(file))
    before_ns = running.settled_cpu_ns() if scenario.unit == CONNECTION else 0
    also = None
    if scenario.beside:
        line_up = ["--start-at", str(int(time.time()) + LINE_UP_SECONDS)]
        flags += line_up
        command, *more = scenario.beside
        command = loadgen(running, command, "/echo", [*more, *line_up], options, scenario, beside)
        also = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = options.seconds + options.warmup + RUN_EXTRA_SECONDS
    try:
        command = loadgen(running, scenario.command, scenario.path, flags, options, scenario, main)
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        if also and also.wait(RUN_EXTRA_SECONDS) not in FINISHED:
            reasons = json.loads(beside.read_text())["reasons"] if beside.exists() else ["no report"]
            raise Failure(f"the echo beside: {'; '.join(reasons)}")
    except subprocess.TimeoutExpired as late:
        raise Failure(f"loadgen did not end within {limit} s") from late
    finally:
        if also and also.poll() is None:
            also.kill()
            also.wait()
    if not main.exists():
        raise Failure(f"loadgen ended with {done.returncode} and no report: {done.stderr[-300:].strip()}")
    found = json.loads(main.read_text())
    if also:
        found["beside"] = json.loads(beside.read_text())
    if scenario.unit == CONNECTION and found.get("connections"):
        found["cpu_us_per_connection"] = (running.settled_cpu_ns() - before_ns) / 1000 / max(found["connections"]["opened"], 1)
    return judged(found, done, scenario)


def judged(found, done, scenario):
    """The run with its cost, or with what is wrong with it."""
    for bulky in ("curves", "histograms", "env"):
        found.pop(bulky, None)
    if reason := fault(found, done):
        return {"report": found, "fault": reason}
    run = {"report": found, "cost": cost(found, scenario)}
    return run if run["cost"] else {**run, "fault": "nothing was delivered or measured"}


def fault(found, done):
    """Why a run counts for nothing; None if it counts."""
    damage = {key: found[key] for key in ("lost", "duplicated", "reordered", "corrupted") if found.get(key)}
    if found.get("failure"):
        return found["failure"]
    if damage:
        return ", ".join(f"{count} {key}" for key, count in damage.items())
    if done.returncode not in FINISHED:
        return f"{found.get('verdict')}: {'; '.join(found.get('reasons', []))}"
    return None


def cost(found, scenario):
    """What a unit took of the server: µs of CPU time, or bytes; None if it could not be read."""
    if scenario.unit == CONNECTION:
        return found.get("cpu_us_per_connection")
    what = "private_dirty_bytes_per_connection" if scenario.unit == MEMORY else "cpu_us_per_delivery"
    return (found.get("server") or {}).get(what)


def run_all(runs, chosen, servers, options):
    """Appends every run as {round, scenario, server, report, cost, fault?}."""
    dice = random.Random(options.seed)
    for number in range(options.rounds):
        for scenario in dice.sample(chosen, len(chosen)):
            for server in dice.sample(servers, len(servers)):
                run = measure(server, scenario, options)
                runs.append({"round": number + 1, "scenario": scenario.name, "server": server.name, **run})
                outcome = run.get("fault") or f"{run['cost']:.4f} {COST_NAMES[scenario.unit]}"
                print(f"round {number + 1}/{options.rounds}  {scenario.name:<13} {server.name:<18} {outcome}", flush=True)


def machine(commit=None):
    """What the figures are measured on; `commit`: of the binaries, where they are not the tree's."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    tree = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True)
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1),
        "kernel": platform.release(),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "own_network_namespace": NAMESPACE_MARK in os.environ,
        "load_average_at_start": round(os.getloadavg()[0], 1),
        "commit": commit or tree.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def enter_namespace():
    """Runs this script again in a network namespace that ends with it; returns where that cannot be."""
    if NAMESPACE_MARK in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
        return
    if os.geteuid() == 0 and shutil.which("ip") and may_unshare():
        os.environ[NAMESPACE_MARK] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    print("warning: not root or not allowed to, or no unshare and ip: measuring on the machine's own loopback", file=sys.stderr)


def may_unshare():
    """Root in a container may lack the capability."""
    return bool(shutil.which("unshare")) and capture("unshare", "--net", "true").returncode == 0


def two_cores():
    """A core for the server and one for the load, of those that this process may use."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failure(f"server and load need a core each, and this process may only use core {cores[0]}")
    return cores[0], cores[-1]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="measured time of a run")
    parser.add_argument("--warmup", type=int, default=2, help="seconds before that")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--scenarios", help="comma list, or all; default: the usual ones")
    parser.add_argument(
        "--servers", help="comma list, or all (leaving out what cannot be made here); default: the usual ones"
    )
    parser.add_argument("--server-cpu", type=int, help="default: the first core that is allowed")
    parser.add_argument("--load-cpu", type=int, help="default: the last")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="of the order; default: from the clock")
    parser.add_argument("--out", type=Path, default=TARGET / "compare")
    parser.add_argument("--name", default="compare", help="of the files written")
    parser.add_argument("--commit", help="which the binaries are built of; default: the tree's")
    parser.add_argument("--list", action="store_true", help="show scenarios and servers (* the usual ones), and end")
    options = parser.parse_args()
    known = scenarios(options.subscribers)
    if options.list:
        for item in [*known, *SERVERS]:
            print(f"{'*' if item.is_usual else ' '} {item.name:<20} {item.about}")
        sys.exit(0)
    if None in (options.server_cpu, options.load_cpu):
        first, last = two_cores()
        options.server_cpu = first if options.server_cpu is None else options.server_cpu
        options.load_cpu = last if options.load_cpu is None else options.load_cpu
    if options.server_cpu == options.load_cpu:
        parser.error("server and load need a core each")
    if min(options.rounds, options.seconds) < 1:
        parser.error("at least one round of one second")
    # Variants of ours are run if they are named.
    alike = [server for server in SERVERS if server.is_peer or server.is_usual]
    servers = alike if options.servers == "all" else pick(parser, SERVERS, options.servers)
    return options, pick(parser, known, options.scenarios), servers


def pick(parser, known, names):
    if names is None:
        return [item for item in known if item.is_usual]
    if names == "all":
        return known
    unknown = set(names.split(",")) - {item.name for item in known}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(item.name for item in known)}")
    return [item for item in known if item.name in names.split(",")]


def prepared(servers, is_tolerant):
    """Makes them all; {name: reason} of those that cannot be made, which is an error unless all were asked for."""
    need(TARGET / "release" / "loadgen", "make build-all")
    missing = {}
    for server in servers:
        print(f"preparing {server.name}", file=sys.stderr)
        try:
            server.prepare()
        except Failure as failure:
            if not (is_tolerant and server.is_peer):
                raise
            missing[server.name] = str(failure)
    return missing


def main():
    options, chosen, servers = arguments()
    if NAMESPACE_MARK not in os.environ:  # a namespace of its own reaches no registry
        missing = prepared(servers, options.servers == "all")
        os.environ["RINGRELAY_COMPARE_MISSING"] = json.dumps(missing)
    enter_namespace()
    missing = json.loads(os.environ["RINGRELAY_COMPARE_MISSING"])
    servers = [server for server in servers if server.name not in missing]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    where = machine(options.commit) | {"command": shlex.join(sys.argv), "seed": options.seed}
    absent = {**missing, **NOT_MEASURED} if options.servers == "all" else missing
    runs = []
    try:
        run_all(runs, chosen, servers, options)
    except KeyboardInterrupt:
        where["stopped_in_round"] = runs[-1]["round"] if runs else 1
    finally:
        where["load_average_at_end"] = round(os.getloadavg()[0], 1)
        write(runs, chosen, servers, absent, where, options)
    sys.exit(1 if any("fault" in run and not run.get("is_unable") for run in runs) else 0)


def write(runs, chosen, servers, absent, where, options):
    """The reports first: they are what cannot be made again."""
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out / options.name
    out.with_suffix(".json").write_text(json.dumps({"machine": where, "runs": runs}, indent=1))
    out.with_suffix(".csv").write_text(report.csv(runs))
    text = report.markdown(runs, chosen, servers, absent, where, options)
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".svg").write_text(plot.bars(runs, chosen, servers, where))
    print(f"\n{text}\n{out}.md, .svg, .json, .csv")


if __name__ == "__main__":
    try:
        main()
    except (Failure, subprocess.CalledProcessError) as failure:
        print(f"compare: {failure}", file=sys.stderr)
        sys.exit(1)
