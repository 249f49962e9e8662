#!/usr/bin/env python3
"""How often the gates err: what gate.py and ab.py say of the same sources, and of sources made worse on purpose.

    perf/qualify.py gate [--runs 3]              the deterministic gate, on a machine of any load
    perf/qualify.py ab [--same 5] [--worse 3]    comparisons in pairs, on a quiet machine
    perf/qualify.py write                        perf/QUALIFICATION.md from all that was run

Each patch of perf/qualification/ is applied to a copy of HEAD and built; a copy without any is built beside them. Every
run counts, none is repeated because of its outcome: results are appended to perf/qualification/runs.json, with the commit.
Exit: 0 done, 1 a gate missed its own regression or raised a false alarm, 2 usage or set-up.
"""

import argparse
import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import gate
from ab import row, HEAD as AB_HEAD
from compare import machine
from revisions import ROOT, TARGET, Failure, build, capture, unpack

OUT = TARGET / "qualify"
PATCHES = ROOT / "perf" / "qualification"
RUNS = PATCHES / "runs.json"
PAGE = ROOT / "perf" / "QUALIFICATION.md"
# The figure that must show each regression.
SHOWS = {"work": "instructions", "system-call": "kernel_system_calls", "allocation": "allocations", "connection": "held_bytes"}
SAME = "same"
VARIANTS = [SAME, *SHOWS]
PACKAGES = {"gate": "benches", "ringrelay": "ringrelay", "loadgen": "loadgen"}


def binary(variant, name):
    """The gate, the server or the load generator of HEAD with one patch, built once per commit."""
    path = OUT / commit() / ("base" if variant == SAME else variant) / name
    if not path.exists():
        patch = PATCHES / f"{variant}.patch" if variant in SHOWS else None
        build(unpack("HEAD", patch), {name: (PACKAGES[name], path)})
    return path


def commit():
    """The last one that changed what is built."""
    built = ["proto", "engine", "loadgen", "benches", "Cargo.toml", "Cargo.lock"]
    return capture("git", "-C", ROOT, "log", "-1", "--format=%h", "--abbrev=9", "HEAD", "--", *built).stdout.strip()


def kept():
    return json.loads(RUNS.read_text()) if RUNS.exists() else []


def keep(run):
    """Appends a run as soon as it is over: what was run is published."""
    stamp = {"commit": commit(), "at": time.strftime("%Y-%m-%d %H:%M"), "load": Path("/proc/loadavg").read_text().split()[0]}
    lines = ",\n".join(json.dumps(one) for one in [*kept(), {**stamp, **run}])
    RUNS.write_text(f"[\n{lines}\n]\n")


def judged(variant, figures, problems):
    """A run of the deterministic gate: how many figures were over, in how many gates the one that shows the variant, and
    the first of these, else of all."""
    own = [problem for problem in problems if f": {SHOWS.get(variant)} " in problem]
    first = (own or problems or [""])[0].removesuffix(" against the merge base")
    return {"gate": variant, "figures": figures, "over": len(problems), "own": len(own), "first": first}


def run_gate(runs, variants):
    """Each variant against HEAD itself, by the limits relative to a merge base."""
    base = gate.run_all(binary("base", "gate"), [])
    if faults := [f"{one.name}: {one.fault}" for one in base if one.fault]:
        keep(judged(SAME, sum(len(one.figures) for one in base), faults))
        raise Failure("; ".join(faults))
    tolerance = tomllib.loads(gate.BUDGETS.read_text())["tolerance"]["base"]
    gate.OUT.mkdir(parents=True, exist_ok=True)
    for number in range(runs):
        for variant in variants:
            began = time.monotonic()
            gates = gate.run_all(binary(variant, "gate"), [])
            problems, _ = gate.against_base(gates, base, tolerance)
            problems += [f"{one.name}: {one.fault}" for one in gates if one.fault]
            figures = sum(len(one.figures) for one in gates)
            keep({**judged(variant, figures, problems), "seconds": round(time.monotonic() - began)})
            print(f"run {number + 1}, {variant}: {len(problems)} of {figures} figures over", flush=True)


def run_ab(same, worse, scenarios, extra):
    """HEAD against itself, one binary on both sides, and against HEAD with more work."""
    base, loadgen = binary("base", "ringrelay"), binary("base", "loadgen")
    heads = {variant: binary(variant, "ringrelay") for variant in (SAME, "work")}
    turns = [SAME] * same + ["work"] * worse
    for number, variant in enumerate(turns):
        command = [ROOT / "perf" / "ab.py", "--base-bin", base, "--head-bin", heads[variant], "--loadgen", loadgen,
                   "--scenarios", scenarios, "--seed", number + 1, "--out", OUT / "ab", *extra]  # fmt: skip
        done = subprocess.run(list(map(str, command)))
        if done.returncode == 2:
            keep({"ab": variant, "failed": True})
            continue
        keep({"ab": variant, "comparisons": json.loads((OUT / "ab" / "ab.json").read_text())["comparisons"]})


def caught(run):
    """What a run of the deterministic gate means for its variant."""
    if run["gate"] == SAME:
        return "no alarm" if not run["over"] else "FALSE ALARM"
    return f"caught, by {SHOWS[run['gate']]} in {run['own']} gates" if run["own"] else "MISSED"


def write():
    """The page, from all runs that were kept."""
    runs = kept()
    gates, pairs = [run for run in runs if "gate" in run], [run for run in runs if "ab" in run]
    described = ", ".join(f"{key} {value}" for key, value in machine().items() if key != "commit")
    lines = ["# How often the gates err", "", "Written by `perf/qualify.py write`; every run that was made is listed, none was repeated because of its outcome.", "",
             f"{described}.", "", "## What is injected", "", "Patches on HEAD, in `perf/qualification/`:", ""]  # fmt: skip
    lines += [f"- **{name}**: {(PATCHES / f'{name}.patch').read_text().splitlines()[0]}" for name in SHOWS]
    lines += ["- **same**: none; the same binary.", "", "## The deterministic gate", "",
              "`perf/gate.py`, each figure against the same of HEAD, 1 % allowed.", "",
              "| run | commit | load of the machine | variant | figures over | | the first of them |", "| ---: | --- | ---: | --- | ---: | --- | --- |"]  # fmt: skip
    for number, run in enumerate(gates, 1):
        lines.append(f"| {number} | {run['commit']} | {run['load']} | {run['gate']} | {run['over']} of {run['figures']} | {caught(run)} | {run['first']} |")
    lines += ["", "## Comparisons in pairs", "", "`perf/ab.py`: server CPU-µs per delivery at 60 % of a core, 98 % intervals, base against itself in the same pairs.", ""]
    head = AB_HEAD.replace("| scenario", "| run | load | variant | scenario").replace("| --- | ---: | ---: | ---: | ---: | ---: | --- |", "| ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    lines.append(head if pairs else "None was run yet: they need a machine that does nothing else.")
    for number, run in enumerate(pairs, 1):
        if run.get("failed"):
            lines.append(f"| {number} | {run['load']} | {run['ab']} | could not be run |" + " |" * 6)
        lines += [f"| {number} | {run['load']} | {run['ab']} {row(one)}" for one in run.get("comparisons", [])]
    PAGE.write_text("\n".join(lines) + "\n")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["gate", "ab", "write"])
    parser.add_argument("--runs", type=int, default=3, help="of the gate, per variant")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="comma list, for the gate")
    parser.add_argument("--same", type=int, default=5, help="comparisons of the same sources")
    parser.add_argument("--worse", type=int, default=3, help="comparisons with more work")
    parser.add_argument("--scenarios", default="fan-out")
    options, extra = parser.parse_known_args()
    if options.what == "gate":
        run_gate(options.runs, options.variants.split(","))
    elif options.what == "ab":
        run_ab(options.same, options.worse, options.scenarios, extra)
    write()
    outcomes = [caught(run) for run in kept() if "gate" in run]
    print(f"{PAGE}: {len(outcomes)} runs of the gate, {sum('ab' in run for run in kept())} comparisons")
    return 1 if {"MISSED", "FALSE ALARM"} & set(outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, subprocess.CalledProcessError, OSError) as failure:
        print(f"qualify: {failure}", file=sys.stderr)
        sys.exit(2)
