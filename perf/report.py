"""What a comparison found, in Markdown and as CSV: medians over the rounds, ratios to the best peer within each round."""

import statistics

from scenarios import CONNECTION, DELIVERY, MEMORY
from servers import NO_HOLD

# A ratio below is no lead: runs of one binary differ by as much.
LEAD = 1.05
# Of its cores: a server that takes as much has no time left, and its latencies are those of a queue.
SATURATED = 0.98
CSV = (
    ("verdict", ("verdict",)),
    ("deliveries_per_s", ("deliveries_per_s",)),
    ("cpu_share", ("server", "cpu_share")),
    ("p50_us", ("latency_us", "response", "p50")),
    ("p99_us", ("latency_us", "response", "p99")),
    ("p99_9_us", ("latency_us", "response", "p99_9")),
    ("completion_p99_us", ("latency_us", "completion", "p99")),
    ("received", ("received",)),
    ("lost", ("lost",)),
)


def dig(report, path):
    """A value deep in a report; None where there is none."""
    for key in path:
        report = report.get(key) if isinstance(report, dict) else None
    return report


def csv(runs):
    lines = ["round,scenario,server,cost," + ",".join(name for name, _ in CSV) + ",fault"]
    for run in runs:
        values = [dig(run["report"], path) for _, path in CSV]
        cells = [run["round"], run["scenario"], run["server"], run.get("cost"), *values]
        fault = run.get("fault", "").replace('"', "'").replace("\n", " ")
        lines.append(",".join("" if cell is None else str(cell) for cell in cells) + (f',"{fault}"' if fault else ","))
    return "\n".join(lines) + "\n"


class Found:
    """The good runs of a comparison, by scenario and server."""

    def __init__(self, runs, servers):
        self.good = [run for run in runs if "fault" not in run]
        self.peers = {server.name for server in servers if server.is_peer}

    def of(self, scenario, server):
        return [run for run in self.good if (run["scenario"], run["server"]) == (scenario.name, server.name)]

    def median(self, scenario, server, value):
        """Of `value(run)`; None where there is none."""
        values = [value(run) for run in self.of(scenario, server)]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    def ratios(self, scenario, server, value=lambda run: run["cost"]):
        """Per round: the best peer's value (the least) in units of this server's; and who was best.

        A round in which a peer failed that was best in another gives no ratio: the one left may not be the best."""
        rounds = self.by_round(scenario, value)
        best = {}
        for number, values in rounds.items():
            peers = {name: value for name, value in values.items() if name in self.peers}
            if peers:
                best[number] = min(peers, key=peers.get)
        needed = {server.name, *best.values()}
        whole = [number for number in best if needed <= rounds[number].keys()]
        return [rounds[n][best[n]] / rounds[n][server.name] for n in whole], [best[n] for n in whole]

    def against(self, scenario, name, other, value):
        """Per round that has both: a server's value in units of another's."""
        rounds = self.by_round(scenario, value).values()
        return [values[name] / values[other] for values in rounds if {name, other} <= values.keys()]

    def by_round(self, scenario, value):
        """{round: {server: value}} of the runs that have one."""
        rounds = {}
        for run in self.good:
            if run["scenario"] == scenario.name and (found := value(run)):
                rounds.setdefault(run["round"], {})[run["server"]] = found
        return rounds


def markdown(runs, chosen, servers, absent, machine, options):
    """The whole report."""
    found = Found(runs, servers)
    echoes = "echo: 100 connections"
    run_by = {"command", "seed"}
    lines = [
        ", ".join(f"{key} {value}" for key, value in machine.items() if key not in run_by),
        "",
        f"`{machine['command']}`, seed {machine['seed']}",
        "",
        f"{options.rounds} rounds of {options.seconds} s (+ {options.warmup} s of warm-up), {options.subscribers:,} subscribers,"
        f" {echoes}. One core for the server, the other for loadgen.",
        *summary(found, chosen, servers),
    ]
    for unit, heading in (
        (DELIVERY, "Thousand deliveries per server CPU-second: median. More is better."),
        (CONNECTION, "µs of server CPU time per connection (handshake, one echo, close): median. Less is better."),
        (MEMORY, "Bytes of user memory per idle connection: median. Less is better."),
    ):
        mine = [scenario for scenario in chosen if scenario.unit == unit]
        if mine:
            lines += ["", heading, "", *costs(found, mine, servers)]
    lines += ["", "To the best peer, round by round: its cost over ours, median (lowest–highest). More is better.", ""]
    lines += ratio_rows(found, chosen, servers)
    lines += ["", *closed_latency(found, chosen, servers), *offered(found, chosen, servers), *beside(found, chosen, servers)]
    lines += ["", *servers_and_scenarios(chosen, servers), *left_out(runs, absent)]
    return "\n".join(lines) + "\n"


def summary(found, chosen, servers):
    """The table for those who read one only: ours, the peer that was best in most rounds, and the ratio to the best. At an
    offered rate CPU time and p50 each have a best peer of their own."""
    ours = [server for server in servers if not server.is_peer]
    if not found.peers or not ours:
        return []
    by_name = {server.name: server for server in servers}
    lines = ["", "In short: thousand deliveries per server CPU-second; at an offered rate cores used · p50. Ratios: more is better.", ""]
    lines += head(["load", *[server.name for server in ours], "best peer", f"{ours[0].name} ÷ best peer"])
    for scenario in (scenario for scenario in chosen if scenario.unit == DELIVERY):
        cells = [figure(found, scenario, server) for server in ours]
        lines.append(row([scenario.about, *cells, *best_of(found, scenario, ours[0], by_name)]))
    return lines


def best_of(found, scenario, server, by_name):
    """Two cells: what the best peer reached, and this server's ratio to it."""
    ratios, bests = found.ratios(scenario, server)
    if not bests:
        return ["–", "–"]
    best = statistics.mode(bests)
    if not scenario.is_offered:
        return [f"{figure(found, scenario, by_name[best])} ({best})", spread(ratios)]
    cores, p50 = found.median(scenario, by_name[best], cpu_share) or 0, latency_ms("p50")
    peer, ratio = f"{cores:.2f} ({best})", f"CPU {spread(ratios)}"
    ratios, bests = found.ratios(scenario, server, p50)
    if bests:
        best = statistics.mode(bests)
        peer += f" · {ms(found.median(scenario, by_name[best], p50))} ms ({best})"
        ratio += f" · p50 {spread(ratios)}"
    return [peer, ratio]


def figure(found, scenario, server):
    """What a server reached in a scenario, in a cell."""
    cost = found.median(scenario, server, lambda run: run["cost"])
    if cost is None:
        return "–"
    if not scenario.is_offered:
        return f"{1000 / cost:,.0f}"
    cores = found.median(scenario, server, cpu_share) or 0
    return f"{cores:.2f} · {ms(found.median(scenario, server, latency_ms('p50')))} ms"


def cpu_share(run):
    return dig(run["report"], ("server", "cpu_share"))


def row(cells):
    return "| " + " | ".join(cells) + " |"


def head(cells):
    return [row(cells), row(["---", *["---:"] * (len(cells) - 1)])]


def costs(found, chosen, servers):
    """A line for each server, a column for each scenario."""
    lines = head(["", *[scenario.name for scenario in chosen]])
    for server in servers:
        cells = []
        for scenario in chosen:
            cost = found.median(scenario, server, lambda run: run["cost"])
            figure = cost if cost is None or scenario.unit != DELIVERY else 1000 / cost
            cells.append("–" if figure is None else f"{figure:,.0f}")
        lines.append(row([server.name, *cells]))
    return lines


def ratio_rows(found, chosen, servers):
    ours = [server for server in servers if not server.is_peer]
    if not found.peers or not ours:
        return ["No peer was measured beside ringrelay."]
    lines = head(["scenario", *[server.name for server in ours], "best peer"])
    behind = []
    for scenario in chosen:
        each = [found.ratios(scenario, server) for server in ours]
        bests = each[0][1]
        lines.append(row([scenario.name, *[spread(ratios) for ratios, _ in each], statistics.mode(bests) if bests else "–"]))
        if bests and statistics.median(each[0][0]) < LEAD:
            behind.append(f"{scenario.name} ({statistics.median(each[0][0]):.2f})")
    if behind:
        lines += ["", f"No lead of {ours[0].name}'s (below {LEAD}): {', '.join(behind)}."]
    return lines


def spread(values):
    """`median (lowest–highest)`"""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else "–"


def latency_ms(percentile, part="response"):
    def value(run):
        found = dig(run["report"], ("latency_us", part, percentile))
        return None if found is None else found / 1000

    return value


def ms(value):
    return "–" if value is None else f"{value:.2f}"


# The columns at an offered rate.
OFFERED = {
    "cores": cpu_share,
    "p50": latency_ms("p50"),
    "p99": latency_ms("p99"),
    "p99.9": latency_ms("p99_9"),
    "completion p99": latency_ms("p99", "completion"),
}


def closed_latency(found, chosen, servers):
    """p50 of the closed loops."""
    chosen = [scenario for scenario in chosen if scenario.unit == DELIVERY and not scenario.is_offered]
    if not chosen:
        return []
    lines = ["Latency p50 of the closed loops in ms: median. It is that of a saturated server.", ""]
    lines += head(["", *[scenario.name for scenario in chosen]])
    for server in servers:
        lines.append(row([server.name, *[ms(found.median(scenario, server, latency_ms("p50"))) for scenario in chosen]]))
    return lines


def offered(found, chosen, servers):
    """Cores and latencies at the offered rates, and both of ours beside the best peer's."""
    lines = []
    for scenario in (scenario for scenario in chosen if scenario.is_offered):
        measured = [server for server in servers if found.of(scenario, server)]
        if not measured:
            continue
        lines += ["", f"{scenario.name}: {scenario.about}; latencies from the intended time, in ms: medians.", ""]
        lines += head(["", *OFFERED, ""])
        lines += [offered_row(found, scenario, server) for server in measured]
        lines += [beside_best(found, scenario, server) for server in measured if found.peers and not server.is_peer]
        lines += without_hold(found, scenario)
    return lines


def offered_row(found, scenario, server):
    cores, *latencies = (found.median(scenario, server, value) for value in OFFERED.values())
    is_saturated = cores is not None and cores >= SATURATED * (2 if server.has_both_cores else 1)
    first = "–" if cores is None else f"{cores:.3f}"
    return row([server.name, first, *map(ms, latencies), "saturated" if is_saturated else ""])


def beside_best(found, scenario, server):
    """A line of ratios, each to the peer that was best in its column, round by round: less is better."""
    cells = []
    for value in OFFERED.values():
        ratios, bests = found.ratios(scenario, server, value)
        cells.append(f"{spread([1 / ratio for ratio in ratios])} {statistics.mode(bests)}" if bests else "–")
    return row([f"{server.name} ÷ best peer", *cells, ""])


def without_hold(found, scenario):
    """What holding a busy topic back costs who hears it."""
    ratios = found.against(scenario, "ringrelay", NO_HOLD, latency_ms("p50"))
    return ["", f"p50 of ringrelay ÷ {NO_HOLD}, round by round: {spread(ratios)}."] if ratios else []


def beside(found, chosen, servers):
    """The echo that ran beside a fan-out."""
    lines = []
    for scenario in (scenario for scenario in chosen if scenario.beside):
        lines += ["", f"{scenario.name}: the echo beside it, from the intended time, in ms: medians.", ""]
        lines += head(["", "p50", "p99"])
        for server in servers:
            figures = []
            for which in ("p50", "p99"):
                path = ("beside", "latency_us", "response", which)
                us = found.median(scenario, server, lambda run, path=path: dig(run["report"], path))
                figures.append(ms(None if us is None else us / 1000))
            if found.of(scenario, server):
                lines.append(row([server.name, *figures]))
    return lines


def servers_and_scenarios(chosen, servers):
    lines = ["What the names mean:", ""]
    return lines + [f"- `{item.name}`: {item.about}" for item in [*chosen, *servers]]


def left_out(runs, absent):
    """Servers that were not measured at all, and runs that count for nothing, with the reasons."""
    lines = []
    if absent:
        lines += ["", "Not measured:", "", *[f"- **{name}**: {reason}" for name, reason in absent.items()]]
    reasons = {}
    for run in runs:
        if "fault" in run:
            reasons.setdefault((run["server"], run["scenario"], run["fault"]), []).append(run["round"])
    if reasons:
        count = sum(len(rounds) for rounds in reasons.values())
        lines += ["", f"Left out, {count} of {len(runs)} runs:", ""]
        for (server, scenario, fault), rounds in sorted(reasons.items()):
            when = "round" if len(rounds) == 1 else "rounds"
            lines.append(f"- {server}, {scenario}, {when} {', '.join(map(str, rounds))}: {fault}")
    return lines
