#!/usr/bin/env python3
"""The deterministic performance gate: instructions, allocations, system calls and copies per operation, against budgets.

    perf/gate.py [--base REF] [--only echo,idle] [--lower] [--bin FILE]

Builds benches/gate (release) and runs each of its gates twice: natively, where the gate counts allocations, the engine
itself and the kernel's tracepoints the rest, and under callgrind for the instructions. Nothing here reads a clock, so a
busy machine changes nothing. Every figure must be within perf/budgets.toml; with --base also within the same figures
of the merge base with REF, built in the same job. A gate that counts nothing fails.

    --lower   writes budgets that were beaten, and those of new gates, into perf/budgets.toml; never raises one. Where it
              differs from what [measured] names, only what does not depend on that, unless every budget is met
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from revisions import ROOT, TARGET, Failure, alone, build, capture, end, merge_base, text_at, tomllib

OUT = TARGET / "perf-gate"
BUDGETS = ROOT / "perf" / "budgets.toml"
RUN_SECONDS = 120
NO_IO_URING = 3  # what `gate run` ends with where it cannot have a ring
# What a figure depends on beside the sources, of what `environment` names. The compiler lays structures out, and its std
# says how lists grow; all other figures are the same everywhere.
RUSTC, NOTHING = frozenset({"rustc"}), frozenset()
DEPENDS = {
    "instructions": frozenset({"rustc", "valgrind", "glibc", "kernel", "cpu"}),
    "allocations": RUSTC,
    "frees": RUSTC,
    "held_bytes": RUSTC,
}
# Differ by some in a million from run to run; the others do not.
INEXACT = {"instructions"}
# A change below this share is not worth telling. What dividing and multiplying by operations may add to a total.
TELLING, ROUNDING = 0.001, 1e-6
# A line of the budgets' head that says why one of them is gone.
REMOVED = re.compile(r"^# removed (.+?): \S", re.MULTILINE)
# Where memory is held, the allocator asks the kernel for more now and then (8 times for 6,000 idle connections), and by
# another layout so much more often.
HEAP_CALLS = 4
# Shown in the table; all figures are in report.json.
SHOWN = ["instructions", "allocations", "held_bytes", "kernel_system_calls", "submissions", "encodes", "copied_bytes"]


def build_gate(name, commit=None):
    build({"gate": ("benches", OUT / name)}, commit)
    return OUT / name


def build_base(ref, notes):
    """The gate of the merge base with `ref`, its budgets and its commit; None with a note where that cannot be had."""
    commit = merge_base(ref)
    if commit is None:
        notes.append(f"no merge base with {ref} (the clone is shallow): budgets only")
        return None
    if text_at(commit, "benches/gate") is None:
        notes.append(f"{commit[:9]} has no gate yet: budgets only")
        return None
    return {"bin": build_gate("gate-base", commit), "commit": commit, "budgets": text_at(commit, "perf/budgets.toml") or ""}


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
                self.check()
                self.figures = {name: total / self.operations for name, total in self.totals.items()}
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

    def may_lack(self, name):
        """True of what cannot be counted here, which a note says."""
        return name == "kernel_system_calls" and self.no_kernel is not None

    def check(self):
        """A gate that counts nothing gates nothing; what the engine says of itself is what the kernel saw."""
        must_count = ["instructions"] + [name for name in ("turns", "system_calls") if name in self.totals]
        if self.name.endswith("/ring"):
            must_count += ["submissions", "completions"]
        nothing = [name for name in must_count if self.totals.get(name, 0) <= 0]
        if self.operations <= 0 or nothing:
            raise Failure(f"counted nothing: {self.operations} operations, {nothing}")
        for name in ("submissions", "completions"):
            engine, kernel = self.totals.get(name), self.totals.pop(f"kernel_{name}", None)
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


def moved(measured):
    """What of this machine is not as where the budgets were measured, in words by its key."""
    here = environment()
    return {key: f"{key} {here.get(key)} instead of {value}" for key, value in measured.items() if here.get(key) != value}


def tolerance(name, shares, elsewhere):
    """By what share a figure may exceed its budget; `elsewhere`: keys of `moved`."""
    if DEPENDS.get(name, NOTHING) & elsewhere:
        return shares["elsewhere"]
    return shares["same"] if name in INEXACT else 0


def slack(gate, name):
    """What may be added to a total."""
    return HEAP_CALLS if name == "kernel_system_calls" and gate.totals.get("held_bytes", 0) > 0 else 0


def over(gate, name, limit, share):
    """True if a figure is not within what is allowed."""
    return not gate.totals[name] <= limit * gate.operations * (1 + share) + slack(gate, name) + ROUNDING


def beaten(gate, name, limit):
    """True if a figure is so far below its budget that this can be lowered."""
    return gate.totals[name] + slack(gate, name) < limit * gate.operations * (1 - TELLING)


def rounded_up(value):
    """Four digits of it: what a budget needs."""
    if value <= 0:
        return 0
    unit = 10 ** (math.floor(math.log10(value)) - 3)
    return math.ceil(value / unit - 1e-6) * unit


def against_budgets(gates, budgets, only, notes):
    """Problems: figures over their budgets, figures that have none, budgets that nothing was counted for."""
    differences = moved(budgets["measured"])
    shares = budgets["tolerance"]
    if differences:
        notes.append(f"budgets were measured elsewhere ({'; '.join(differences.values())}): {shares['elsewhere']:.0%} of tolerance for what depends on it")
    problems = [] if only else [f"{name}: has budgets and is not run" for name in budgets["gates"].keys() - {gate.name for gate in gates}]
    for gate in gates:
        allowed = budgets["gates"].get(gate.name, {})
        for name, value in gate.figures.items():
            if name not in allowed:
                problems.append(f"{gate.name}: {name} has no budget ({value:g} per {gate.operation}): perf/gate.py --lower")
            elif over(gate, name, allowed[name], tolerance(name, shares, differences.keys())):
                problems.append(f"{gate.name}: {name} {value:g} per {gate.operation}, the budget is {allowed[name]:g}")
        if gate.figures:  # otherwise it has a fault, or a note says why it was skipped
            missing = [name for name in allowed if name not in gate.figures]
            problems += [f"{gate.name}: {name} has a budget and is not counted" for name in missing if not gate.may_lack(name)]
    return problems


def all_beaten(gates, budgets):
    """Budgets that can be lowered here, in words."""
    elsewhere = moved(budgets["measured"]).keys()
    found = []
    for gate in gates:
        allowed = budgets["gates"].get(gate.name, {})
        for name, value in gate.figures.items():
            if name in allowed and beaten(gate, name, allowed[name]) and not DEPENDS.get(name, NOTHING) & elsewhere:
                found.append(f"{gate.name}: {name} {value:g} per {gate.operation}, the budget is {allowed[name]:g}")
    return found


def against_base(gates, bases, share, stated=()):
    """Problems, and the changes worth telling. `share` is what inexact figures may exceed the base's by, without a reason
    in `stated`."""
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
            is_over = over(gate, name, before, share if name in INEXACT else 0)
            if is_over and ("gates", gate.name, name) not in stated:
                problems.append(text + " against the merge base")
            elif is_over or abs(gate.totals[name] - base.totals[name]) > slack(gate, name) + abs(base.totals[name]) * TELLING:
                changes.append(text)
    return problems, changes


def numbers(tree, path=()):
    """Every number of a TOML tree by its path."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= numbers(value, (*path, key))
        elif isinstance(value, int | float):
            found[(*path, key)] = value
    return found


def comments(text):
    """The comment on the line of each number, by the number's path."""
    section, found = (), {}
    for line in text.splitlines():
        try:
            entry = tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
        if line.lstrip().startswith("["):
            section = heading(entry)
        for path in numbers(entry, section):
            found[path] = line.partition("#")[2].strip()
    return found


def heading(tree):
    """The path of the one table in a tree."""
    path = ()
    while isinstance(tree, dict) and tree:
        ((key, tree),) = tree.items()
        path = (*path, key)
    return path


def loosened(now, before):
    """Budgets and tolerances that are above those of the base, or gone, without a new reason: a comment on the line that
    is not the base's, or a line `# removed GATE FIGURE: reason` (or GATE alone) in the head."""
    values, reasons = numbers(tomllib.loads(now)), stated(now, before)
    removed = set(REMOVED.findall(now)) - set(REMOVED.findall(before))
    problems = []
    for path, was in numbers(tomllib.loads(before)).items():
        if path[0] not in ("gates", "tolerance"):
            continue
        what = f"{path[0]} {' '.join(path[1:])}"
        if path not in values:
            if not {path[1], " ".join(path[1:])} & removed:
                problems.append(f"{what}: {was:g} was removed without a reason")
        elif not values[path] <= was and path not in reasons:
            problems.append(f"{what}: raised from {was:g} to {values[path]:g} without a new reason on its line")
    return problems


def stated(now, before):
    """The budgets, by path, whose line has a reason that the base's does not have."""
    old = comments(before)
    return {path: reason for path, reason in comments(now).items() if reason not in ("", old.get(path, ""))}


def lower(gates, budgets, notes):
    """Writes BUDGETS with what was beaten and what is new. Reasons stay with their lines.

    [measured] says where all budgets come from. So it is written only if every budget is met here; otherwise those that
    depend on what differs keep their figures."""
    text = BUDGETS.read_text()
    known, reasons = budgets["gates"], comments(text)
    figures = {("gates", gate.name, name): rounded_up(value) for gate in gates for name, value in gate.figures.items()}
    elsewhere = moved(budgets["measured"]).keys()
    kept = [path for path, limit in numbers(known, ("gates",)).items() if path not in figures or figures[path] > limit]
    if elsewhere and kept:
        notes.append(f"[measured] stays and with it what depends on {', '.join(elsewhere)}: {len(kept)} budgets are not met here or were not run")
    for (_, gate, name), figure in figures.items():
        allowed = known.setdefault(gate, {})
        if name not in allowed or not (kept and DEPENDS.get(name, NOTHING) & elsewhere):
            allowed[name] = min(allowed.get(name, float("inf")), figure)
    body = []
    for gate, allowed in known.items():
        entries = (f"{name} = {plain(value)}{said(reasons.get(('gates', gate, name)))}" for name, value in allowed.items())
        body += [f'[gates."{gate}"]', *entries, ""]
    head = re.split(r"^\[gates\.", text, maxsplit=1, flags=re.MULTILINE)[0].rstrip()
    if not kept:
        for key, value in environment().items():
            head = re.sub(rf'^{key} = ".*"$', lambda _, key=key, value=value: f'{key} = "{value}"', head, flags=re.MULTILINE)
    BUDGETS.write_text(head + "\n\n" + "\n".join(body).rstrip() + "\n")


def said(reason):
    return f"  # {reason}" if reason else ""


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
    with alone(OUT):
        return judge(options, only)


def judge(options, only):
    notes, changes = [], []
    gates = run_all(options.bin or build_gate("gate-head"), only)
    budgets = tomllib.loads(BUDGETS.read_text())
    if options.lower:
        lower(gates, budgets, notes)
        budgets = tomllib.loads(BUDGETS.read_text())
    problems = [f"{gate.name}: {gate.fault}" for gate in gates if gate.fault]
    problems += against_budgets(gates, budgets, only, notes)
    if options.base and (base := build_base(options.base, notes)):
        bases = run_all(base["bin"], only)
        now = BUDGETS.read_text()
        worse, changes = against_base(gates, bases, budgets["tolerance"]["base"], stated(now, base["budgets"]))
        problems += worse + loosened(now, base["budgets"])
        notes.append(f"compared with {base['commit'][:9]}: {len(changes)} other changes")
    notes += sorted({f"not counted, no io_uring ({gate.skipped})" for gate in gates if gate.skipped})
    for reason in sorted({gate.no_kernel for gate in gates if gate.no_kernel}):
        instead = "strace counts system calls instead" if shutil.which("strace") else "and no strace: not checked against it"
        notes.append(f"the kernel's counts cannot be read ({reason}): {instead}")
    if low := all_beaten(gates, budgets):
        notes.append(f"beaten: {len(low)} of the budgets; perf/gate.py --lower writes them down")
    report = [table([gate for gate in gates if gate.figures]), ""]
    report += [f"OVER {problem}" for problem in problems] + [f"changed {change}" for change in changes]
    report += [f"BEATEN {one}" for one in low]
    report += [f"NOTE perf-gate: {note}" for note in notes]
    (OUT / "report.md").write_text("\n".join(report) + "\n")
    kept = {gate.name: {"per": gate.operation, "operations": gate.operations, **gate.figures} for gate in gates}
    (OUT / "report.json").write_text(json.dumps({"environment": environment(), "gates": kept, "problems": problems}, indent=1))
    print("\n".join(report))
    checks = sum(len(gate.figures) for gate in gates)
    print(f"{max(checks - len(problems), 0)} passed, {len(problems)} failed")
    return 1 if problems or not checks else 0


if __name__ == "__main__":
    end("gate", main)
