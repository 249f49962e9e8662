#!/usr/bin/env python3
"""Two revisions of ringrelay under the same load, in pairs: server CPU-µs per delivery at 60 % of a core.

    perf/ab.py --base REF [--head REF] [--scenarios fan-out,crowd] [--pairs 10] [--seconds 1] [--out DIR]
    perf/ab.py --base-bin FILE --head-bin FILE …

`loadgen ab --canary` runs base, head and base again side by side in each pair; the load goes from one to the other by
slices of 20 ms in random balanced order. One core for the servers, of which one has the load at a time, the other for
loadgen. The rate of a scenario is set on the base, to 60 % of the servers' core, and is the same for all.
Per scenario: REGRESSED (the 98 % interval of head / base lies above 1), PASS (it does not, and 5 % would have shown),
INCONCLUSIVE (it would not, or the base differs from itself: then the machine moved).

Without --head: the working tree. As root in a network namespace of its own with reno. Writes ab.json and ab.md into DIR
(default target/perf-ab), and what the servers say into SCENARIO-base.log and SCENARIO-head.log.
Exit: 0 all PASS, 1 REGRESSED, 2 usage, set-up or stopped, 3 INCONCLUSIVE.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from compare import NAMESPACE_MARK, Running, enter_namespace, machine, two_cores
from revisions import TARGET, Failure, build, end, merge_base, run_with_us
from servers import Server

OUT = TARGET / "perf-ab"
LOAD = 0.6  # of the server's core
LOAD_NEAR, LOAD_FAR = 0.03, 0.2  # good enough to stop looking; too far off to compare anything
CALIBRATIONS = 6
STEP_MIN, STEP_MAX = 0.6, 1.5  # by what one of them may change the rate
CONFIG = """server: {host: 127.0.0.1, port: 0, shards: 1}
metrics: {enabled: false}
endpoints: [{path: /, mode: relay}]
"""
WORDS = {"worse": "REGRESSED", "better": "PASS", "no_difference_shown": "PASS", "inconclusive": "INCONCLUSIVE"}
EXITS = {"PASS": 0, "REGRESSED": 1, "INCONCLUSIVE": 3}
# loadgen's exits that leave a report.
REPORTED = (0, 1, 3)


@dataclass(frozen=True)
class Scenario:
    """A load whose rate is to be found: loadgen's flags, and a rate to begin with, in messages per second."""

    name: str
    flags: tuple
    rate: float
    is_tls: bool = False


SCENARIOS = [
    Scenario("fan-out", ("--subscribers", "1000", "--publishers", "1", "--size", "64"), 180),
    Scenario("crowd", ("--subscribers", "300", "--publishers", "100", "--size", "64"), 450),
    Scenario("bulk", ("--subscribers", "300", "--publishers", "1", "--size", "4096"), 450),
]


def load(options, command, scenario, rate, port, seconds, report, *flags):
    """Runs loadgen on its core and returns what it wrote. `ab` finds a port for each side itself."""
    report.unlink(missing_ok=True)
    done = run_with_us(
        ["taskset", "-c", str(options.load_cpu), str(options.loadgen), command, "--url", f"ws://127.0.0.1:{port}/",
         "--rate", f"{rate:.1f}", *scenario.flags, "--warmup", "300ms" if command == "ab" else "1s",
         "--duration", f"{seconds}s", "--quiet", "--json", str(report), *flags],
        stdout=subprocess.PIPE, stderr=None if command == "ab" else subprocess.PIPE,
    )  # fmt: skip
    if done.returncode not in REPORTED or not report.exists():
        raise Failure(f"loadgen {command}, {scenario.name} at {rate:.0f}/s: exit {done.returncode} {done.stderr or ''}")
    return json.loads(report.read_text())


def core_share(seen):
    """What the server took of its core in a run of loadgen."""
    share = (seen.get("server") or {}).get("cpu_share")
    if share is None:
        raise Failure("loadgen cannot read the server's CPU time")
    return share


def calibrate(scenario, options, folder):
    """The rate at which the base takes LOAD of a core, as near as it comes. It is searched for: what a delivery costs
    depends on how many leave in one send, and the share hardly grows any more once the server holds messages back."""
    rate, tried = scenario.rate, {}
    server = Server("base", "", None, lambda *_: [options.base_bin, "--config", options.config])
    for _ in range(CALIBRATIONS):
        running = Running(server, scenario, options)
        try:
            pid = ("--server-pid", str(running.process.pid))
            tried[rate] = core_share(load(options, "run", scenario, rate, running.port, 1, folder / "calibration.json", *pid))
        finally:
            running.stop()
        print(f"{scenario.name}: {rate:.0f} messages/s take {tried[rate]:.0%} of a core", file=sys.stderr, flush=True)
        if abs(tried[rate] - LOAD) < LOAD_NEAR:
            break
        rate *= min(max(LOAD / tried[rate], STEP_MIN), STEP_MAX) if tried[rate] > 0 else STEP_MAX
    best = min(tried, key=lambda rate: abs(tried[rate] - LOAD))
    if abs(tried[best] - LOAD) > LOAD_FAR:
        raise Failure(f"{scenario.name}: no rate takes {LOAD:.0%} of a core; is the machine busy, or the core shared?")
    return best


def side(binary, log, options):
    """The command of a server, for loadgen's shell. A base runs twice, hence both add to one log."""
    log.unlink(missing_ok=True)
    command = shlex.join(["taskset", "-c", str(options.server_cpu), str(binary), "--config", str(options.config)])
    return f"env RINGRELAY_SERVER__PORT={{port}} {command} 2>>{shlex.quote(str(log))}"


def compare(scenario, options):
    """One comparison: its result word, the rate, and loadgen's report with every pair."""
    logs = [options.out.resolve() / f"{scenario.name}-{name}.log" for name in ("base", "head")]
    base, head = (side(binary, log, options) for binary, log in zip((options.base_bin, options.head_bin), logs))
    with tempfile.TemporaryDirectory(prefix="ringrelay-ab-") as folder:
        rate = options.rates.get(scenario.name) or calibrate(scenario, options, Path(folder))
        try:
            report = load(
                options, "ab", scenario, rate, "{port}", options.seconds, Path(folder) / "ab.json",
                "--a", base, "--b", head, "--canary", "--pairs", str(options.pairs), "--seed", str(options.seed),
            )  # fmt: skip
        except Failure as failure:
            raise Failure(f"{failure}; the servers' logs: {', '.join(map(str, logs))}") from failure
    invalid = report["invalid_runs"] * 4 > options.pairs * 3
    result = "INCONCLUSIVE" if invalid else WORDS[report["outcome"]]
    return {"scenario": scenario.name, "rate": rate, "result": result, "report": report}


def percent(estimate):
    return " ".join(f"{(estimate[key] - 1) * 100:+.1f}" for key in ("ratio", "low", "high"))


def row(done):
    """A line of the table."""
    report = done["report"]
    why = ""
    if done["result"] == "INCONCLUSIVE":
        effect = f"only {report['smallest_effect']:.1%} would have shown"
        why = "the base differs from itself" if report["contaminated"] else effect
    base = sorted(pair["a"] for pair in report["pairs"])[len(report["pairs"]) // 2]
    cores = f"{report['cpu_share']['a']:.2f}" if "cpu_share" in report else "–"
    cells = [done["scenario"], f"{done['rate']:.0f}", cores, f"{base:.3f}", percent(report["estimate"]), percent(report["canary"])]
    return "| " + " | ".join([*cells, f"{report['estimate']['pair_spread']:.1%}", done["result"] + (f": {why}" if why else "")]) + " |"


HEAD = """| scenario | messages/s | cores | base, µs | head / base, % (low, high) | base / base | pairs' spread | |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"""


def prepare(options):
    """Builds what is missing. Not in the namespace: that reaches no registry."""
    OUT.mkdir(parents=True, exist_ok=True)
    options.config = OUT / "config.yaml"
    options.config.write_text(CONFIG)
    if options.loadgen is None:
        options.loadgen = OUT / "loadgen"
        build({"loadgen": ("loadgen", options.loadgen)})
    if options.head_bin is None:
        options.head_bin = OUT / "ringrelay-head"
        build({"ringrelay": ("ringrelay", options.head_bin)}, options.head)
    if options.base_bin is None:
        options.base_bin = OUT / "ringrelay-base"
        commit = merge_base(options.base)
        if commit is None:
            raise Failure(f"no merge base with {options.base}: the clone is shallow")
        build({"ringrelay": ("ringrelay", options.base_bin)}, commit)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--base", help="compare with the merge base of this commit and HEAD")
    parser.add_argument("--head", help="this commit instead of the working tree")
    parser.add_argument("--base-bin", type=Path, help="a ringrelay that is built already")
    parser.add_argument("--head-bin", type=Path, help="the same of the other side")
    parser.add_argument("--loadgen", type=Path, help="a loadgen that is built already")
    parser.add_argument("--scenarios", help="comma list of: " + ", ".join(scenario.name for scenario in SCENARIOS))
    parser.add_argument("--rates", default="", help="NAME=RATE,… messages per second, instead of finding them")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=1, help="measured time of each side of a pair")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    server_cpu, load_cpu = two_cores()
    parser.add_argument("--server-cpu", type=int, default=server_cpu)
    parser.add_argument("--load-cpu", type=int, default=load_cpu)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if not options.base and not options.base_bin:
        parser.error("--base REF, or --base-bin FILE")
    names = options.scenarios.split(",") if options.scenarios else [scenario.name for scenario in SCENARIOS]
    if unknown := set(names) - {scenario.name for scenario in SCENARIOS}:
        parser.error(f"unknown scenarios: {', '.join(sorted(unknown))}")
    try:
        options.rates = {name: float(rate) for name, rate in (entry.split("=") for entry in options.rates.split(",") if entry)}
    except ValueError:
        parser.error(f"--rates {options.rates!r} is not NAME=RATE,…")
    return options, [scenario for scenario in SCENARIOS if scenario.name in names]


def main():
    options, chosen = arguments()
    prepare(options)
    if NAMESPACE_MARK not in os.environ:
        # The binaries are there now: inside, they are given.
        sys.argv += ["--base-bin", str(options.base_bin), "--head-bin", str(options.head_bin), "--loadgen", str(options.loadgen)]
    enter_namespace()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options.out.mkdir(parents=True, exist_ok=True)
    done = [compare(scenario, options) for scenario in chosen]
    text = "\n".join([HEAD, *map(row, done)]) + "\n"
    (options.out / "ab.json").write_text(json.dumps({"machine": machine(), "comparisons": done}, indent=1))
    (options.out / "ab.md").write_text(text)
    print(text)
    results = [one["result"] for one in done]
    return next((EXITS[word] for word in ("REGRESSED", "INCONCLUSIVE") if word in results), 0)


if __name__ == "__main__":
    end("ab", main)
