#!/usr/bin/env python3
"""How often the gates err: what gate.py and ab.py say of the same sources, and of sources made worse on purpose.

    perf/qualify.py gate [--runs 3]              the deterministic gate, on a machine of any load
    perf/qualify.py ab [--same 5] [--worse 3]    comparisons in pairs, on a quiet machine
    perf/qualify.py write                        perf/QUALIFICATION.md from all that was run

Each patch of perf/qualification/ is applied to a copy of HEAD and built; a copy without any is built beside them. Every
run counts, none is repeated because of its outcome: results are appended to perf/qualification/runs.json, with the commit.
The exit judges the runs of this call: 0 none erred, 1 one missed its regression or raised a false alarm, 2 usage or
set-up, or a comparison could not be run. What erred before is listed.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import gate
from ab import EXITS, HEAD as AB_HEAD, row
from compare import machine
from revisions import ROOT, TARGET, Failure, alone, build, capture, end, run_with_us, tomllib

OUT = TARGET / "qualify"
PATCHES = ROOT / "perf" / "qualification"
RUNS = PATCHES / "runs.json"
PAGE = ROOT / "perf" / "QUALIFICATION.md"
# The figure that must show each regression.
SHOWS = {"work": "instructions", "few-instructions": "instructions", "system-call": "kernel_system_calls", "allocation": "allocations", "connection": "held_bytes"}
AB = ROOT / "perf" / "ab.py"
SAME = "same"
FALSE_ALARM, MISSED, NOT_RUN = "FALSE ALARM", "MISSED", "could not be run"
ERRORS = {FALSE_ALARM, MISSED}
VARIANTS = [SAME, *SHOWS]
PACKAGES = {"gate": "benches", "ringrelay": "ringrelay", "loadgen": "loadgen"}


def binary(variant, name):
    """The gate, the server or the load generator of HEAD with one patch, built once per commit and text of the patch."""
    folder, patch = "base", None
    if variant in SHOWS:
        patch = PATCHES / f"{variant}.patch"
        folder = f"{variant}-{hashlib.sha256(patch.read_bytes()).hexdigest()[:9]}"
    path = OUT / commit() / folder / name
    if not path.exists():
        build({name: (PACKAGES[name], path)}, "HEAD", patch)
    return path


def commit():
    """The last one that changed what is built."""
    built = ["proto", "engine", "loadgen", "benches", "Cargo.toml", "Cargo.lock"]
    return capture("git", "-C", ROOT, "log", "-1", "--format=%h", "--abbrev=9", "HEAD", "--", *built).stdout.strip()


def kept():
    return json.loads(RUNS.read_text()) if RUNS.exists() else []


def keep(run):
    """Appends a run as soon as it is over, and returns it: what was run is published."""
    stamp = {"commit": commit(), "at": time.strftime("%Y-%m-%d %H:%M"), "load": Path("/proc/loadavg").read_text().split()[0]}
    lines = ",\n".join(json.dumps(one) for one in [*kept(), {**stamp, **run}])
    RUNS.write_text(f"[\n{lines}\n]\n")
    return {**stamp, **run}


def judged(variant, figures, problems):
    """A run of the deterministic gate: how many figures were over, in how many gates the one that shows the variant, and
    the first of these, else of all."""
    own = [problem for problem in problems if f": {SHOWS.get(variant)} " in problem]
    first = (own or problems or [""])[0].removesuffix(" against the merge base")
    return {"gate": variant, "figures": figures, "over": len(problems), "own": len(own), "first": first}


def run_gate(runs, variants):
    """Each variant against HEAD itself, by the limits relative to a merge base; returns the runs."""
    base_gate = binary(SAME, "gate")
    with alone(gate.OUT):
        base = gate.run_all(base_gate, [])
        if faults := [f"{one.name}: {one.fault}" for one in base if one.fault]:
            return [keep(judged(SAME, sum(len(one.figures) for one in base), faults))]
        share = tomllib.loads(gate.BUDGETS.read_text())["tolerance"]["base"]
        return [run_variant(variant, base, share, number + 1) for number in range(runs) for variant in variants]


def run_variant(variant, base, share, number):
    built, began = binary(variant, "gate"), time.monotonic()
    gates = gate.run_all(built, [])
    problems, _ = gate.against_base(gates, base, share)
    problems += [f"{one.name}: {one.fault}" for one in gates if one.fault]
    figures = sum(len(one.figures) for one in gates)
    print(f"run {number}, {variant}: {len(problems)} of {figures} figures over", flush=True)
    return keep({**judged(variant, figures, problems), "seconds": round(time.monotonic() - began)})


def run_ab(same, worse, scenarios, extra):
    """HEAD against itself, one binary on both sides, and against HEAD with more work; returns the runs."""
    base, loadgen = binary(SAME, "ringrelay"), binary(SAME, "loadgen")
    heads = {variant: binary(variant, "ringrelay") for variant in (SAME, "work")}
    runs = []
    for number, variant in enumerate([SAME] * same + ["work"] * worse):
        found = compared(["--base-bin", base, "--head-bin", heads[variant], "--loadgen", loadgen,
                          "--scenarios", scenarios, "--seed", number + 1, *extra])  # fmt: skip
        runs.append(keep({"ab": variant, **({"failed": True} if found is None else {"comparisons": found})}))
    return runs


def compared(flags):
    """The comparisons of one call of ab.py; None if it did not come to any."""
    report = OUT / "ab" / "ab.json"
    report.unlink(missing_ok=True)
    done = run_with_us(list(map(str, [AB, *flags, "--out", report.parent])))
    if done.returncode not in EXITS.values() or not report.exists():
        return None
    return json.loads(report.read_text())["comparisons"]


def verdict(run):
    """What a run means for its variant."""
    if "gate" in run:
        if run["gate"] == SAME:
            return "no alarm" if not run["over"] else FALSE_ALARM
        return f"caught, by {SHOWS[run['gate']]} in {run['own']} gates" if run["own"] else MISSED
    if run.get("failed"):
        return NOT_RUN
    results = {one["result"] for one in run["comparisons"]}
    if run["ab"] == SAME:
        return FALSE_ALARM if "REGRESSED" in results else "no alarm"
    if "PASS" in results:
        return MISSED
    return "caught" if results == {"REGRESSED"} else "not decided"


def judgement(runs):
    """The exit code for these runs."""
    verdicts = set(map(verdict, runs))
    return 1 if verdicts & ERRORS else 2 if NOT_RUN in verdicts else 0


def write():
    """The page, from all runs that were kept."""
    runs = kept()
    gates, pairs = [run for run in runs if "gate" in run], [run for run in runs if "ab" in run]
    described = ", ".join(f"{key} {machine()[key]}" for key in ("cpu", "cores", "memory_gib", "kernel"))
    lines = ["# How often the gates err", "", "Written by `perf/qualify.py write`; every run that was made is listed, none was repeated because of its outcome.", "",
             f"{described}.", "", "## What is injected", "", "Patches on HEAD, in `perf/qualification/`:", ""]  # fmt: skip
    lines += [f"- **{name}**: {(PATCHES / f'{name}.patch').read_text().splitlines()[0]}" for name in SHOWS]
    lines += ["- **same**: none; the same binary.", "", "## The deterministic gate", "",
              "`perf/gate.py`, each figure against the same of HEAD, by the limits of a merge base.", "",
              "| run | commit | load of the machine | variant | figures over | | the first of them |", "| ---: | --- | ---: | --- | ---: | --- | --- |"]  # fmt: skip
    for number, run in enumerate(gates, 1):
        lines.append(f"| {number} | {run['commit']} | {run['load']} | {run['gate']} | {run['over']} of {run['figures']} | {verdict(run)} | {run['first']} |")
    lines += ["", "## Comparisons in pairs", "", "`perf/ab.py`: server CPU-µs per delivery at a rate that takes about 60 % of a core (what it took while it was compared: cores), 98 % intervals, base against itself in the same pairs.", ""]
    head = AB_HEAD.replace("| scenario", "| run | load | variant | scenario").replace("| --- | ---:", "| ---: | ---: | --- | --- | ---:", 1)
    lines.append(head if pairs else "None was run yet: they need a machine that does nothing else.")
    for number, run in enumerate(pairs, 1):
        if run.get("failed"):
            lines.append(f"| {number} | {run['load']} | {run['ab']} | {NOT_RUN} |" + " |" * 6)
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
    before, runs = kept(), []
    if options.what == "gate":
        runs = run_gate(options.runs, options.variants.split(","))
    elif options.what == "ab":
        runs = run_ab(options.same, options.worse, options.scenarios, extra)
    write()
    for when, some in (("before", before), ("now", runs)):
        wrong = [f"{run['commit']} {run['at']} {run.get('gate') or run['ab']}: {verdict(run)}" for run in some if verdict(run) in ERRORS]
        print(f"{when}: {len(some)} runs, {len(wrong)} erred", *wrong, sep="\n  ")
    print(PAGE)
    return judgement(runs)


if __name__ == "__main__":
    end("qualify", main)
