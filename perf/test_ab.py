"""What ab.py and qualify.py make of results: python3 -m unittest discover -s perf (a step of make test)."""

import os
import re
import subprocess
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import ab
import qualify


def comparison(result, contaminated=False):
    estimate = {"ratio": 1.05, "low": 1.02, "high": 1.08, "pair_spread": 0.012}
    same = {"ratio": 1.0, "low": 0.99, "high": 1.01, "pair_spread": 0.01}
    pairs = [{"a": 4.0, "b": 4.2}, {"a": 4.1, "b": 4.3}, {"a": 9.0, "b": 4.2}]
    report = {"estimate": estimate, "canary": same, "pairs": pairs, "smallest_effect": 0.07, "contaminated": contaminated}
    return {"scenario": "fan-out", "rate": 180.0, "result": result, "report": report}


class Comparisons(unittest.TestCase):
    def test_a_row_has_the_median_the_interval_and_the_result(self):
        row = ab.row(comparison("REGRESSED"))
        self.assertEqual(row, "| fan-out | 180 | – | 4.100 | +5.0 +2.0 +8.0 | +0.0 -1.0 +1.0 | 1.2% | REGRESSED |")
        self.assertEqual(row.count("|"), ab.HEAD.splitlines()[0].count("|"))

    def test_inconclusive_says_why(self):
        self.assertIn("only 7.0% would have shown", ab.row(comparison("INCONCLUSIVE")))
        self.assertIn("differs from itself", ab.row(comparison("INCONCLUSIVE", contaminated=True)))

    def test_every_outcome_of_loadgen_has_a_word_and_every_word_an_exit(self):
        self.assertEqual(set(ab.WORDS.values()), set(ab.EXITS))


class Loads(unittest.TestCase):
    def test_a_server_whose_time_cannot_be_read_is_a_failure(self):
        self.assertEqual(ab.core_share({"server": {"cpu_share": 0.5}}), 0.5)
        for seen in ({}, {"server": None}, {"server": {"cpu_share": None}}):
            with self.assertRaisesRegex(ab.Failure, "CPU time"):
                ab.core_share(seen)

    def test_a_path_may_hold_what_the_shell_reads(self):
        with tempfile.TemporaryDirectory(suffix=" it's; here") as folder:
            binary, log = Path(folder) / "server", Path(folder) / "log"
            binary.write_text('#!/bin/sh\necho "$RINGRELAY_SERVER__PORT $*" >&2\n')
            binary.chmod(0o755)
            options = types.SimpleNamespace(server_cpu=min(os.sched_getaffinity(0)), config="a b")
            for _ in range(2):
                command = ab.side(binary, log, options).replace("{port}", "7")
                subprocess.run(["sh", "-c", f"exec {command}"], check=True)
            self.assertEqual(log.read_text(), "7 --config a b\n")


class Qualification(unittest.TestCase):
    def test_a_regression_is_caught_by_its_own_figure_only(self):
        problems = ["echo: instructions 1 → 2 per message against the merge base"]
        self.assertEqual(qualify.verdict(qualify.judged("allocation", 9, problems)), "MISSED")
        problems.append("echo: allocations 0 → 1 per message against the merge base")
        run = qualify.judged("allocation", 9, problems)
        self.assertEqual((run["over"], run["first"]), (2, "echo: allocations 0 → 1 per message"))
        self.assertRegex(qualify.verdict(run), "^caught, by allocations in 1 gates")

    def test_every_regression_can_be_injected_into_these_sources(self):
        for variant in qualify.SHOWS:
            patch = qualify.PATCHES / f"{variant}.patch"
            done = subprocess.run(["git", "apply", "--check", "-C1", patch], cwd=qualify.ROOT, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, f"{patch.name}: {done.stderr}")

    def test_the_same_sources_must_raise_no_alarm(self):
        self.assertEqual(qualify.verdict(qualify.judged("same", 9, [])), "no alarm")
        self.assertEqual(qualify.verdict(qualify.judged("same", 9, ["anything"])), "FALSE ALARM")

    def test_a_comparison_of_the_same_must_not_regress_and_one_with_more_work_must(self):
        def verdict(variant, *results):
            return qualify.verdict({"ab": variant, "comparisons": [{"result": result} for result in results]})

        self.assertEqual([verdict("same", result) for result in ab.EXITS], ["no alarm", "FALSE ALARM", "no alarm"])
        self.assertEqual([verdict("work", result) for result in ab.EXITS], ["MISSED", "caught", "not decided"])
        self.assertEqual(verdict("work", "REGRESSED", "PASS"), "MISSED")
        self.assertEqual(qualify.verdict({"ab": "work", "failed": True}), "could not be run")

    def test_the_exit_judges_the_runs_of_the_call(self):
        alarm, fine, failed = qualify.judged("same", 9, ["x"]), qualify.judged("same", 9, []), {"ab": "same", "failed": True}
        self.assertEqual([qualify.judgement(runs) for runs in ([], [fine], [fine, alarm], [failed, alarm], [fine, failed])],
                         [0, 0, 1, 1, 2])  # fmt: skip

    def test_old_runs_that_erred_do_not_fail_a_later_call(self):
        old = {"commit": "abc", "at": "now", "load": "1", **qualify.judged("same", 9, ["x"])}
        with mock.patch.multiple(qualify, kept=lambda: [old], write=lambda: None):
            with mock.patch("sys.argv", ["qualify.py", "write"]), mock.patch("builtins.print") as told:
                self.assertEqual(qualify.main(), 0)
        self.assertIn("1 erred", str(told.mock_calls))

    def test_only_a_comparison_that_ended_and_wrote_its_report_counts(self):
        with tempfile.TemporaryDirectory() as folder:
            script, report = Path(folder) / "ab.py", Path(folder) / "ab" / "ab.json"
            report.parent.mkdir()

            def compared(code, text):
                report.write_text('{"comparisons": ["of the last call"]}')
                wrote = f"echo '{text}' >{report}" if text else ":"
                script.write_text(f"#!/bin/sh\n{wrote}\nexit {code}\n")
                script.chmod(0o755)
                return qualify.compared([])

            with mock.patch.multiple(qualify, AB=script, OUT=Path(folder)):
                fresh = '{"comparisons": [7]}'
                self.assertEqual([compared(code, fresh) for code in (0, 1, 2, 3, 134)], [[7], [7], None, [7], None])
                self.assertEqual([compared(code, None) for code in (0, 1)], [None, None])

    def test_a_patch_that_was_edited_is_built_anew(self):
        built = []
        with tempfile.TemporaryDirectory() as folder:
            patch = Path(folder) / "work.patch"
            with mock.patch.multiple(qualify, OUT=Path(folder), PATCHES=Path(folder), commit=lambda: "abc"):
                with mock.patch.object(qualify, "build", lambda wanted, commit, patch: built.append(patch)):
                    patch.write_text("one")
                    first = qualify.binary("work", "gate")
                    patch.write_text("two")
                    self.assertNotEqual(qualify.binary("work", "gate"), first)
                    self.assertNotEqual(qualify.binary("same", "gate"), first)
        self.assertEqual(built, [patch, patch, None])

    def test_the_folder_of_the_gate_is_there_before_it_is_used(self):
        with tempfile.TemporaryDirectory() as folder:
            seen, out = [], Path(folder) / "a" / "b"
            with mock.patch.object(qualify.gate, "OUT", out), mock.patch.object(qualify.gate, "run_all", lambda *_: seen.append(out.is_dir()) or []):
                with mock.patch.multiple(qualify, binary=lambda *_: None, keep=lambda run: run), mock.patch("builtins.print"):
                    self.assertEqual(len(qualify.run_gate(1, ["same"])), 1)
            self.assertEqual(seen, [True, True])

    def test_every_regression_is_a_patch_with_a_line_about_it(self):
        for name in qualify.SHOWS:
            first, *rest = (qualify.PATCHES / f"{name}.patch").read_text().splitlines()
            self.assertTrue(first and not first.startswith("diff"), name)
            self.assertTrue(any(re.match(r"\+\s+\S", line) for line in rest), name)


if __name__ == "__main__":
    unittest.main()
