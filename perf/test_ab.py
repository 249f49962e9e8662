"""What ab.py and qualify.py make of results: python3 -m unittest discover -s perf (a step of make test)."""

import re
import subprocess
import unittest

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
        self.assertEqual(row, "| fan-out | 180 | 4.100 | +5.0 +2.0 +8.0 | +0.0 -1.0 +1.0 | 1.2% | REGRESSED |")
        self.assertEqual(row.count("|"), ab.HEAD.splitlines()[0].count("|"))

    def test_inconclusive_says_why(self):
        self.assertIn("only 7.0% would have shown", ab.row(comparison("INCONCLUSIVE")))
        self.assertIn("differs from itself", ab.row(comparison("INCONCLUSIVE", contaminated=True)))

    def test_every_outcome_of_loadgen_has_a_word_and_every_word_an_exit(self):
        self.assertEqual(set(ab.WORDS.values()), set(ab.EXITS))


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

    def test_every_regression_is_a_patch_with_a_line_about_it(self):
        for name in qualify.SHOWS:
            first, *rest = (qualify.PATCHES / f"{name}.patch").read_text().splitlines()
            self.assertTrue(first and not first.startswith("diff"), name)
            self.assertTrue(any(re.match(r"\+\s+\S", line) for line in rest), name)


if __name__ == "__main__":
    unittest.main()
