"""What report.py and plot.py make of runs: python3 -m unittest discover -s perf (a step of make test)."""

import types
import unittest
from xml.etree import ElementTree

import compare
import plot
import report
from scenarios import scenarios
from servers import SERVERS

BY_NAME = {server.name: server for server in SERVERS}
CHOSEN = [scenario for scenario in scenarios(1000) if scenario.name in ("w1-64", "rate500-64")]
OPTIONS = types.SimpleNamespace(rounds=2, seconds=1, warmup=1, subscribers=1000)
MACHINE = {"cpu": "A < B", "cores": 2, "kernel": "6", "date": "2026-11-20", "commit": "abc"}
RUN_BY = {"command": "perf/compare.py --rounds 2", "seed": 7}


def run(number, server, cost=None, fault=None, scenario="w1-64"):
    made = {"round": number, "scenario": scenario, "server": server, "cost": cost, "report": {}}
    return made | ({"fault": fault} if fault else {})


def at_rate(server, cores, p50_us):
    """A run at an offered rate."""
    one = run(1, server, cores, scenario="rate500-64")
    one["report"] = {"server": {"cpu_share": cores}, "latency_us": {"response": {"p50": p50_us}}}
    return one


def found(*runs):
    return report.Found(list(runs), list(BY_NAME.values()))


class Ratios(unittest.TestCase):
    def test_the_best_peer_of_each_round_counts(self):
        runs = [run(1, "ringrelay", 2.0), run(1, "bun", 3.0), run(1, "axum", 5.0)]
        runs += [run(2, "ringrelay", 2.0), run(2, "bun", 6.0), run(2, "axum", 4.0)]
        self.assertEqual(found(*runs).ratios(CHOSEN[0], BY_NAME["ringrelay"]), ([1.5, 2.0], ["bun", "axum"]))

    def test_a_round_without_a_peer_that_was_once_the_best_gives_none(self):
        runs = [run(1, "ringrelay", 2.0), run(1, "bun", 3.0), run(1, "axum", 5.0)]
        runs += [run(2, "ringrelay", 2.0), run(2, "bun", 1.0, "7 lost"), run(2, "axum", 9.0)]
        # In round 2 axum is the best that is left; a round with both tells more, and there bun was better.
        self.assertEqual(found(*runs).ratios(CHOSEN[0], BY_NAME["ringrelay"]), ([1.5], ["bun"]))

    def test_a_peer_that_is_never_the_best_may_fail(self):
        runs = [run(1, "ringrelay", 2.0), run(1, "bun", 3.0), run(1, "axum", fault="INVALID")]
        self.assertEqual(found(*runs).ratios(CHOSEN[0], BY_NAME["ringrelay"]), ([1.5], ["bun"]))

    def test_other_servers_of_ours_are_no_peers(self):
        runs = [run(1, "ringrelay", 2.0), run(1, "ringrelay-epoll", 1.0), run(1, "bun", 4.0)]
        self.assertEqual(found(*runs).ratios(CHOSEN[0], BY_NAME["ringrelay"]), ([2.0], ["bun"]))


class Markdown(unittest.TestCase):
    def text(self, runs, absent=None):
        names = {one["server"] for one in runs}
        servers = [server for server in SERVERS if server.name in names]
        return report.markdown(runs, CHOSEN, servers, absent or {}, MACHINE | RUN_BY, OPTIONS)

    def test_where_there_is_no_lead_is_said(self):
        behind = self.text([run(1, "ringrelay", 2.0), run(1, "bun", 1.8)])
        self.assertIn("No lead of ringrelay's (below 1.05): w1-64 (0.90).", behind)
        self.assertNotIn("No lead", self.text([run(1, "ringrelay", 1.0), run(1, "bun", 1.8)]))

    def test_what_is_left_out_is_listed_with_its_reason_and_counts_for_nothing(self):
        text = self.text(
            [run(1, "ringrelay", 2.0), run(2, "ringrelay", 1.0, "3 lost"), run(1, "bun", 2.5)], {"x": "no compiler"}
        )
        self.assertIn("| ringrelay | 500 | – |", text)
        self.assertIn("Left out, 1 of 3 runs:\n\n- ringrelay, w1-64, round 2: 3 lost", text)
        self.assertIn("- **x**: no compiler", text)

    def test_it_says_by_what_command_it_was_made(self):
        self.assertIn("commit abc\n\n`perf/compare.py --rounds 2`, seed 7\n", self.text([run(1, "bun", 2.0)]))

    def test_at_an_offered_rate_each_column_has_its_own_best_peer(self):
        text = self.text([at_rate("ringrelay", 0.5, 4000), at_rate("bun", 0.75, 8000), at_rate("axum", 1.0, 2000)])
        self.assertIn("| ringrelay ÷ best peer | 0.67 (0.67–0.67) bun | 2.00 (2.00–2.00) axum | – | – | – |  |", text)
        self.assertIn("| 0.50 · 4.00 ms | 0.75 (bun) · 2.00 ms (axum) | CPU 1.50 (1.50–1.50) · p50 0.50 (0.50–0.50) |", text)
        self.assertIn("| axum | 1.000 | 2.00 | – | – | – | saturated |", text)
        self.assertIn("| bun | 0.750 | 8.00 | – | – | – |  |", text)

    def test_what_holding_back_costs_is_said_where_both_were_measured(self):
        text = self.text([at_rate("ringrelay", 0.5, 4000), at_rate("ringrelay-no-hold", 0.5, 5000)])
        self.assertIn("p50 of ringrelay ÷ ringrelay-no-hold, round by round: 0.80 (0.80–0.80).", text)
        self.assertNotIn("no-hold", self.text([at_rate("ringrelay", 0.5, 4000)]))

    def test_a_line_of_the_csv_has_as_many_cells_as_its_head(self):
        head, *lines = report.csv([run(1, "bun", 1.5), run(1, "axum", fault='"odd", \n')]).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[0].count(","), head.count(","))
        self.assertTrue(lines[1].endswith(""","'odd',  \""""))


class Judged(unittest.TestCase):
    """A report of loadgen, however odd, is one run and no more."""

    def judged(self, report, code=0, unit="delivery"):
        done, scenario = types.SimpleNamespace(returncode=code), types.SimpleNamespace(unit=unit)
        return compare.judged(report, done, scenario)

    def test_a_failure_is_told_before_a_cost_is_looked_for(self):
        for unit in ("delivery", "connection", "memory"):
            self.assertEqual(self.judged({"failure": "refused", "server": None}, 2, unit)["fault"], "refused")
            self.assertIn("nothing was", self.judged({"server": None}, 0, unit)["fault"])
        self.assertEqual(self.judged({"verdict": "INVALID", "reasons": ["late"]}, 3)["fault"], "INVALID: late")

    def test_a_whole_run_has_its_cost(self):
        run = self.judged({"server": {"cpu_us_per_delivery": 1.5}, "lost": 0, "curves": [1]})
        self.assertEqual(run, {"report": {"server": {"cpu_us_per_delivery": 1.5}, "lost": 0}, "cost": 1.5})
        self.assertEqual(self.judged({"server": {"cpu_us_per_delivery": 1.5}, "lost": 2})["fault"], "2 lost")

    def test_what_cannot_be_read_is_the_fault_of_its_run(self):
        class Odd:
            def unable(self, scenario):
                return {}["missing"]

        self.assertEqual(compare.measure(Odd(), None, None), {"report": {}, "fault": "KeyError: 'missing'"})


class Loads(unittest.TestCase):
    def test_names_are_unique_and_every_server_says_what_it_is(self):
        for items in (scenarios(1000), SERVERS):
            self.assertEqual(len({item.name for item in items}), len(items))
            self.assertTrue(all(item.about for item in items))

    def test_offered_rates_of_half_a_core_and_of_next_to_none(self):
        flags = {scenario.name: " ".join(scenario.flags) for scenario in scenarios(1000) if scenario.is_offered}
        self.assertIn("--connections 100 --rate 100000 --size 64", flags["echo-half"])
        self.assertIn("--rate 100", flags["rate100-64"])
        self.assertIn("--rate 20", flags["rate20-64"])


class Plot(unittest.TestCase):
    def test_the_longest_bar_is_the_best_and_failed_runs_have_none(self):
        runs = [run(1, "ringrelay", 1.0), run(1, "bun", 2.0), run(1, "axum", 0.1, "INVALID")]
        svg = ElementTree.fromstring(
            plot.bars(runs, CHOSEN, [BY_NAME[name] for name in ("bun", "ringrelay", "axum")], MACHINE)
        )
        bars = [bar for bar in svg.iter("{http://www.w3.org/2000/svg}rect") if bar.get("class") in ("ours", "peer")]
        self.assertEqual([bar.get("class") for bar in bars], ["ours", "peer"])
        widths = [float(bar.get("width")) for bar in bars]
        self.assertAlmostEqual(widths[0], 2 * widths[1], delta=0.2)


if __name__ == "__main__":
    unittest.main()
