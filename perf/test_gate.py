"""What gate.py makes of figures: python3 -m unittest discover -s perf (a step of make test)."""

import tempfile
import tomllib
import unittest
from pathlib import Path

import gate

BUDGETS = """# Why there are budgets.
[measured]
rustc = "1.0.0"

[tolerance]
same = 0.01
elsewhere = 0.1
base = 0.01

[gates]

[gates."echo"]
instructions = 1000
allocations = 0
turns = 1  # one to read, as of the new port
"""


def counted(name="echo", operations=100, **totals):
    one = gate.Gate(None, name)
    one.operation, one.operations, one.totals = "message", operations, totals
    one.figures = {figure: total / operations for figure, total in totals.items()}
    return one


class Limits(unittest.TestCase):
    def budgets(self, here=None):
        budgets = tomllib.loads(BUDGETS)
        budgets["measured"] = {"rustc": here or gate.environment()["rustc"]}
        return budgets

    def problems(self, one, only=(), here=None):
        return gate.against_budgets([one], self.budgets(here), only, [])

    def test_what_is_within_its_budget_passes(self):
        self.assertEqual(self.problems(counted(instructions=100_900, allocations=0, turns=100)), [])

    def test_more_than_the_tolerance_is_over(self):
        self.assertEqual(len(self.problems(counted(instructions=101_100, allocations=0, turns=100))), 1)

    def test_a_budget_of_0_is_0_but_for_chance(self):
        self.assertEqual(self.problems(counted(instructions=1, allocations=2, turns=1)), [])
        self.assertIn("allocations", self.problems(counted(instructions=1, allocations=3, turns=1))[0])

    def test_elsewhere_is_told_and_has_a_wider_tolerance(self):
        notes = []
        one = counted(instructions=109_000, allocations=0, turns=100)
        self.assertEqual(gate.against_budgets([one], self.budgets("0.9.0"), (), notes), [])
        self.assertIn("instead of 0.9.0", notes[0])

    def test_a_figure_without_a_budget_and_a_budget_without_a_gate_are_problems(self):
        self.assertIn("no budget", self.problems(counted(instructions=1, allocations=0, turns=1, copies=1))[0])
        self.assertIn("is not run", self.problems(counted("other"))[0])
        self.assertEqual(self.problems(counted("other"), only=["other"]), [])

    def test_the_base_is_compared_by_totals(self):
        worse, changes = gate.against_base([counted(instructions=102_000)], [counted(instructions=100_000)], 0.01)
        self.assertEqual((len(worse), changes), (1, []))
        worse, changes = gate.against_base([counted(instructions=90_000)], [counted(instructions=100_000)], 0.01)
        self.assertEqual((worse, len(changes)), ([], 1))

    def test_a_gate_that_counts_nothing_has_a_fault(self):
        with self.assertRaises(gate.Failure):
            counted(instructions=0, turns=5).check()
        with self.assertRaises(gate.Failure):
            counted(instructions=5, turns=0).check()
        with self.assertRaisesRegex(gate.Failure, "the kernel 8"):
            counted(instructions=5, submissions=9, kernel_submissions=8).check()
        counted(instructions=5, submissions=8, kernel_submissions=8).check()


class Raising(unittest.TestCase):
    def test_a_raised_budget_needs_a_reason_on_its_line(self):
        raised = BUDGETS.replace("= 1000", "= 1001")
        self.assertEqual(len(gate.raised_without_reason(raised, BUDGETS)), 1)
        reasoned = BUDGETS.replace("= 1000", "= 1001  # checks more")
        self.assertEqual(gate.raised_without_reason(reasoned, BUDGETS), [])
        self.assertEqual(gate.raised_without_reason(BUDGETS.replace("= 1000", "= 999"), BUDGETS), [])

    def test_lowering_never_raises_and_keeps_reasons(self):
        with tempfile.TemporaryDirectory() as folder:
            gate.BUDGETS, kept = Path(folder) / "budgets.toml", gate.BUDGETS
            self.addCleanup(setattr, gate, "BUDGETS", kept)
            gate.BUDGETS.write_text(BUDGETS)
            gate.lower([counted(instructions=123_456, allocations=0, turns=50), counted("new", copies=333)], tomllib.loads(BUDGETS))
            text = gate.BUDGETS.read_text()
        self.assertTrue(text.startswith("# Why there are budgets.\n"))
        self.assertIn("turns = 0.5  # one to read, as of the new port\n", text)
        gates = tomllib.loads(text)["gates"]
        self.assertEqual(gates["echo"]["instructions"], 1000)
        self.assertEqual(gates["new"]["copies"], 3.33)

    def test_budgets_are_rounded_up_to_four_digits(self):
        self.assertEqual([gate.plain(gate.rounded_up(value)) for value in (0, 1, 2931, 913.2342, 0.00030941)],
                         ["0", "1", "2931", "913.3", "0.0003095"])  # fmt: skip


if __name__ == "__main__":
    unittest.main()
