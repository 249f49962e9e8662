#!/usr/bin/env python3
"""The deterministic performance gate: instructions, allocations, system calls and copies per operation, against budgets.

    perf/gate.py [--base REF] [--only echo,idle] [--lower] [--bin FILE]

Builds benches/gate (release) and runs each of its gates twice: natively, where the gate counts allocations, the engine
itself and the kernel's tracepoints the rest, and under callgrind for the instructions. Nothing here reads a clock, so a
busy machine changes nothing. Every figure must be within perf/budgets.toml; with --base also within the same figures
of the merge base with REF, built in the same job. A gate that counts nothing fails.

    --lower   writes budgets that were beaten, and those of new gates, into perf/budgets.toml; never raises one
    --bin     a gate that is built already

Needs valgrind; strace where the kernel's tracepoints cannot be read. Writes report.md and report.json into
target/perf-gate. Exit: 0 all within, 1 something is over or was not counted, 2 usage or set-up. Last line: N passed, N failed
"""

import argparse
import functools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from revisions import ROOT, TARGET, Failure, build, capture, merge_base, unpack

OUT = TARGET / "perf-gate"
BUDGETS = ROOT / "perf" / "budgets.toml"
RUN_SECONDS = 120
NO_IO_URING = 3  # what `gate run` ends with where it cannot have a ring
# Chance may add so much to the total of a run: a list that grows in a rare second, a page of the allocator's own.
SLACK = {"kernel_system_calls": 10, "allocations": 2, "frees": 2, "held_bytes": 16384}
# Shown in the table; all figures are in report.json.
SHOWN = ["instructions", "allocations", "held_bytes", "kernel_system_calls", "submissions", "encodes", "copied_bytes"]


def build_gate(source, name):
    build(source, {"gate": ("benches", OUT / name)})
    return OUT / name


def build_base(ref, notes):
    """The gate of the merge base with `ref`, its budgets and its commit; None with a note where that cannot be had."""
    commit, why = merge_base(ref)
    if commit is None:
        notes.append(f"no merge base with {ref} ({why}): budgets only")
        return None
    source = unpack(commit)
    if not (source / "benches" / "gate").exists():
        notes.append(f"{commit[:9]} has no gate yet: budgets only")
        return None
    budgets = source / "perf" / "budgets.toml"
    text = budgets.read_text() if budgets.exists() else ""
    return {"bin": build_gate(source, "gate-base"), "commit": commit, "budgets": text}


class Gate:
    """One gate of one binary, and what it came to: `figures` per operation, or `fault`, or `skipped`."""

    def __init__(self, binary, name):
        self.binary, self.name = binary, name
        self.figures, self.totals, self.operations, self.operation = {}, {}, 0, ""
        self.fault = self.skipped = self.no_kernel = None

    def run(self):
        try:
            self.count()
            if not self.skipped:
                self.totals["instructions"] = self.instructions()
                self.figures = {name: total / self.operations for name, total in self.totals.items()}
                self.check()
        except (Failure, subprocess.TimeoutExpired) as failure:
            self.fault = str(failure)
        return self

    def count(self):
        done = capture(self.binary, "run", self.name, "--kernel", timeout=RUN_SECONDS)
        if done.returncode == NO_IO_URING:
            self.skipped = done.stderr.strip()
            return
        if done.returncode:
            raise Failure(done.stderr.strip()[-500:])
        report = json.loads(done.stdout)
        self.operations, self.operation, self.totals = report["operations"], report["operation"], report["totals"]
        clients_calls = self.totals.pop("clients_calls", None)
        if report.get("no_kernel_counts") and clients_calls is not None:
            self.no_kernel = report["no_kernel_counts"]
            if shutil.which("strace"):
                self.totals["kernel_system_calls"] = self.traced() - clients_calls

    def traced(self):
        """System calls between the gate's marks, as strace sees them."""
        log = OUT / (self.name.replace("/", "-") + ".strace")
        done = capture("strace", "-qq", "-e", "signal=none", "-o", log, self.binary, "run", self.name, timeout=RUN_SECONDS)
        if done.returncode:
            raise Failure(f"strace: {done.stderr.strip()[-500:]}")
        lines = log.read_text().splitlines()
        log.unlink()
        begin, end = (next(i for i, line in enumerate(lines) if f'"gate: {mark}"' in line) for mark in ("begin", "end"))
        return end - begin - 1

    def instructions(self):
        """What callgrind counts below `measured`: user instructions of the product, none of the gate's clients."""
        log = OUT / (self.name.replace("/", "-") + ".callgrind")
        done = capture(
            "valgrind", "-q", "--tool=callgrind", "--toggle-collect=*meter*measured*", f"--callgrind-out-file={log}",
            self.binary, "run", self.name, timeout=RUN_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise Failure(f"under callgrind: {done.stderr.strip()[-500:]}")
        seen = json.loads(done.stdout)["operations"]
        if seen != self.operations:
            raise Failure(f"{seen} operations under callgrind, {self.operations} without")
        return int(re.search(r"^totals: (\d+)", log.read_text(), re.MULTILINE).group(1))

    def check(self):
        """A gate that counts nothing gates nothing; what the engine says of itself is what the kernel saw."""
        must_count = ["instructions"] + [name for name in ("turns", "system_calls") if name in self.totals]
        nothing = [name for name in must_count if self.totals[name] <= 0]
        if self.operations <= 0 or nothing:
            raise Failure(f"counted nothing: {self.operations} operations, {nothing}")
        for name in ("submissions", "completions"):
            engine, kernel = self.totals.get(name), self.totals.pop(f"kernel_{name}", None)
            self.figures.pop(f"kernel_{name}", None)
            if kernel is not None and kernel != engine:
                raise Failure(f"the engine says {engine} {name}, the kernel {kernel}")
        if self.totals.get("kernel_system_calls", float("inf")) < self.totals.get("system_calls", 0):
            raise Failure(f"the engine says {self.totals['system_calls']} system calls, the kernel fewer: {self.totals}")


def run_all(binary, only):
    listed = capture(binary, "list")
    if listed.returncode:
        raise Failure(f"{binary} list: {listed.stderr}")
    names = [name for name in listed.stdout.split() if not only or any(part in name for part in only)]
    if not names:
        raise Failure(f"no gate matches {only}")
    # Counts do not depend on what else runs.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda name: Gate(binary, name).run(), names))


@functools.cache
def environment():
    """What counts may depend on beside the sources."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "rustc": capture("rustc", "--version").stdout.split()[1],
        "valgrind": capture("valgrind", "--version").stdout.strip().removeprefix("valgrind-"),
        "glibc": platform.libc_ver()[1],
        "kernel": ".".join(platform.release().split(".")[:2]),
        "cpu": model.group(1) if model else platform.machine(),
    }


def over(gate, name, limit, tolerance):
    """True if a figure is above what is allowed."""
    return gate.totals[name] > limit * gate.operations * (1 + tolerance) + SLACK.get(name, 0)


def rounded_up(value):
    """Four digits of it: what a budget needs."""
    if value <= 0:
        return 0
    unit = 10 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / unit - 1e-6) * unit


def against_budgets(gates, budgets, only, notes):
    """Problems; figures of gates or kinds that have no budget are problems too."""
    here = environment()
    moved = [f"{key} {here[key]} instead of {value}" for key, value in budgets["measured"].items() if here.get(key) != value]
    tolerance = budgets["tolerance"]["elsewhere" if moved else "same"]
    if moved:
        notes.append(f"budgets were measured elsewhere ({'; '.join(moved)}): {tolerance:.0%} of tolerance")
    problems = [] if only else [f"{name}: has budgets and is not run" for name in budgets["gates"].keys() - {gate.name for gate in gates}]
    for gate in gates:
        allowed = budgets["gates"].get(gate.name, {})
        for name, value in gate.figures.items():
            if name not in allowed:
                problems.append(f"{gate.name}: {name} has no budget ({value:g} per {gate.operation}): perf/gate.py --lower")
            elif over(gate, name, allowed[name], tolerance):
                problems.append(f"{gate.name}: {name} {value:g} per {gate.operation}, the budget is {allowed[name]:g}")
    return problems


def against_base(gates, bases, tolerance):
    """Problems, and the changes worth telling."""
    by_name = {base.name: base for base in bases}
    problems, changes = [], []
    for gate in gates:
        base = by_name.get(gate.name)
        if base is None or not base.figures:
            changes.append(f"{gate.name}: not in the base" + (f" ({base.fault or base.skipped})" if base else ""))
            continue
        for name, value in gate.figures.items():
            before = base.figures.get(name)
            if before is None:
                continue
            text = f"{gate.name}: {name} {before:g} → {value:g} per {gate.operation}"
            if over(gate, name, before, tolerance):
                problems.append(text + " against the merge base")
            elif abs(gate.totals[name] - base.totals[name]) > SLACK.get(name, 0) + abs(base.totals[name]) * 0.001:
                changes.append(text)
    return problems, changes


def raised_without_reason(now, before):
    """Budgets above those of the base must say why, in a comment on their line."""
    if not before:
        return []
    old, section, problems = tomllib.loads(before).get("gates", {}), None, []
    for line in now.splitlines():
        if heading := re.match(r'\[gates\."(.*)"\]', line):
            section = heading.group(1)
        elif entry := re.match(r"(\w+) = ([\d.]+)\s*(#.*)?$", line):
            was = old.get(section, {}).get(entry.group(1))
            if was is not None and float(entry.group(2)) > was and not entry.group(3):
                problems.append(f"{section}: the budget of {entry.group(1)} was raised from {was:g} without a reason")
    return problems


def lower(gates, budgets):
    """Writes BUDGETS with what was beaten and what is new. Reasons stay with their lines."""
    reasons = {}
    section = None
    head = []
    for line in BUDGETS.read_text().splitlines():
        if heading := re.match(r'\[gates\."(.*)"\]', line):
            section = heading.group(1)
        elif section is None:
            head.append(line)
        elif entry := re.match(r"(\w+) = [\d.]+\s*(#.*)$", line):
            reasons[section, entry.group(1)] = "  " + entry.group(2)
    known = budgets["gates"]
    for gate in gates:
        allowed = known.setdefault(gate.name, {})
        for name, value in gate.figures.items():
            allowed[name] = min(allowed.get(name, float("inf")), rounded_up(value))
    body = []
    for name, allowed in known.items():
        entries = (f"{key} = {plain(value)}{reasons.get((name, key), '')}" for key, value in allowed.items())
        body += [f'[gates."{name}"]', *entries, ""]
    text = "\n".join(head).rstrip()
    for key, value in environment().items():
        text = re.sub(rf'^{key} = ".*"$', lambda _, key=key, value=value: f'{key} = "{value}"', text, flags=re.MULTILINE)
    BUDGETS.write_text(text + "\n\n" + "\n".join(body).rstrip() + "\n")


def plain(value):
    """The number without an exponent, as short as it goes."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def table(gates):
    rows = ["| gate | per | " + " | ".join(SHOWN) + " |", "| --- | --- |" + " ---: |" * len(SHOWN)]
    for gate in gates:
        cells = [f"{gate.figures[name]:.4g}" if name in gate.figures else "" for name in SHOWN]
        if gate.figures.get("instructions", 0) >= 10000:
            cells[0] = f"{gate.figures['instructions']:.0f}"
        rows.append(f"| {gate.name} | {gate.operation} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--base", help="compare with the merge base with this commit, too")
    parser.add_argument("--only", help="comma list of parts of names")
    parser.add_argument("--lower", action="store_true", help="write budgets that were beaten, and new ones")
    parser.add_argument("--bin", type=Path, help="a gate that is built already")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else []
    if not shutil.which("valgrind"):
        raise Failure("no valgrind: apt-get install valgrind, or .ci/deps")
    OUT.mkdir(parents=True, exist_ok=True)
    notes, changes = [], []
    gates = run_all(options.bin or build_gate(ROOT, "gate-head"), only)
    text = BUDGETS.read_text()
    budgets = tomllib.loads(text)
    if options.lower:
        lower([gate for gate in gates if gate.figures and not gate.fault], budgets)
        text = BUDGETS.read_text()
        budgets = tomllib.loads(text)
    problems = [f"{gate.name}: {gate.fault}" for gate in gates if gate.fault]
    problems += against_budgets(gates, budgets, only, notes)
    if options.base and (base := build_base(options.base, notes)):
        bases = run_all(base["bin"], only)
        worse, changes = against_base(gates, bases, budgets["tolerance"]["base"])
        problems += worse + raised_without_reason(text, base["budgets"])
        notes.append(f"compared with {base['commit'][:9]}: {len(changes)} other changes")
    notes += sorted({f"not counted, no io_uring ({gate.skipped})" for gate in gates if gate.skipped})
    for reason in sorted({gate.no_kernel for gate in gates if gate.no_kernel}):
        instead = "strace counts system calls instead" if shutil.which("strace") else "and no strace: not checked against it"
        notes.append(f"the kernel's counts cannot be read ({reason}): {instead}")
    report = [table([gate for gate in gates if gate.figures]), ""]
    report += [f"OVER {problem}" for problem in problems] + [f"changed {change}" for change in changes]
    report += [f"NOTE perf-gate: {note}" for note in notes]
    (OUT / "report.md").write_text("\n".join(report) + "\n")
    kept = {gate.name: {"per": gate.operation, "operations": gate.operations, **gate.figures} for gate in gates}
    (OUT / "report.json").write_text(json.dumps({"environment": environment(), "gates": kept, "problems": problems}, indent=1))
    print("\n".join(report))
    checks = sum(len(gate.figures) for gate in gates)
    print(f"{max(checks - len(problems), 0)} passed, {len(problems)} failed")
    return 1 if problems or not checks else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failure, subprocess.CalledProcessError, OSError) as failure:
        print(f"gate: {failure}", file=sys.stderr)
        sys.exit(2)
