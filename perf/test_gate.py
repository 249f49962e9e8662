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

    def test_what_does_not_vary_has_no_tolerance(self):
        self.assertIn("turns", self.problems(counted(instructions=1, allocations=0, turns=101))[0])
        self.assertIn("allocations", self.problems(counted(instructions=1, allocations=1, turns=1))[0])

    def test_the_allocator_may_ask_the_kernel_for_what_is_held(self):
        for held, is_over in ((0, True), (1, False)):
            one = counted(held_bytes=held, kernel_system_calls=204)
            self.assertEqual(gate.over(one, "kernel_system_calls", 2, 0), is_over)
        self.assertTrue(gate.over(counted(held_bytes=1, kernel_system_calls=205), "kernel_system_calls", 2, 0))

    def test_elsewhere_is_told_and_has_a_wider_tolerance(self):
        notes = []
        one = counted(instructions=109_000, allocations=0, turns=100)
        self.assertEqual(gate.against_budgets([one], self.budgets("0.9.0"), (), notes), [])
        self.assertIn("instead of 0.9.0", notes[0])

    def test_elsewhere_nothing_is_allowed_to_what_does_not_depend_on_it(self):
        self.assertIn("turns", self.problems(counted(instructions=1, allocations=0, turns=101), here="0.9.0")[0])
        elsewhere = {"cpu"}
        self.assertEqual([gate.tolerance(name, tomllib.loads(BUDGETS)["tolerance"], elsewhere)
                          for name in ("instructions", "allocations", "system_calls")], [0.1, 0, 0])  # fmt: skip

    def test_a_budget_that_is_no_number_holds_nothing(self):
        self.assertTrue(gate.over(counted(turns=1), "turns", float("nan"), 0))

    def test_a_figure_without_a_budget_and_a_budget_without_a_gate_are_problems(self):
        self.assertIn("no budget", self.problems(counted(instructions=1, allocations=0, turns=1, copies=1))[0])
        self.assertIn("is not run", self.problems(counted("other"))[0])
        self.assertEqual(self.problems(counted(instructions=1, turns=1)), ["echo: allocations has a budget and is not counted"])
        self.assertEqual(self.problems(counted("other"), only=["other"]), [])

    def test_only_the_kernels_calls_may_be_missing_and_only_where_they_cannot_be_counted(self):
        budgets = self.budgets()
        budgets["gates"]["echo"]["kernel_system_calls"] = 2
        one = counted(instructions=1, allocations=0, turns=1)
        self.assertEqual(len(gate.against_budgets([one], budgets, (), [])), 1)
        one.no_kernel = "no tracepoints"
        self.assertEqual(gate.against_budgets([one], budgets, (), []), [])

    def test_what_was_beaten_is_told_unless_it_depends_on_the_machine(self):
        one = counted(instructions=90_000, allocations=0, turns=50)
        self.assertEqual(len(gate.all_beaten([one], self.budgets())), 2)
        self.assertEqual(gate.all_beaten([one], self.budgets("0.9.0")), ["echo: turns 0.5 per message, the budget is 1"])
        self.assertEqual(gate.all_beaten([counted(instructions=99_950, allocations=0, turns=100)], self.budgets()), [])

    def test_the_base_is_compared_by_totals(self):
        worse, changes = gate.against_base([counted(instructions=102_000)], [counted(instructions=100_000)], 0.01)
        self.assertEqual((len(worse), changes), (1, []))
        worse, changes = gate.against_base([counted(instructions=90_000)], [counted(instructions=100_000)], 0.01)
        self.assertEqual((worse, len(changes)), ([], 1))

    def test_a_raise_with_a_new_reason_on_its_budget_is_told_and_no_fault(self):
        budget = '[gates."echo"]\ninstructions = 1000'
        reasons = gate.stated(budget + " # tags are read", budget)
        worse, changes = gate.against_base([counted(instructions=102_000)], [counted(instructions=100_000)], 0.01, reasons)
        self.assertEqual((worse, len(changes)), ([], 1))
        self.assertEqual(gate.stated(budget + " # tags are read", budget + " # tags are read"), {})

    def test_a_gate_that_counts_nothing_has_a_fault(self):
        with self.assertRaises(gate.Failure):
            counted(instructions=0, turns=5).check()
        with self.assertRaises(gate.Failure):
            counted(instructions=5, turns=0).check()
        with self.assertRaisesRegex(gate.Failure, "the kernel 8"):
            counted(instructions=5, submissions=9, kernel_submissions=8).check()
        counted(instructions=5, submissions=8, kernel_submissions=8).check()

    def test_a_gate_of_the_ring_submits_and_completes(self):
        ring = {"instructions": 5, "turns": 1, "submissions": 1, "completions": 1}
        counted("echo/ring", **ring).check()
        for lacking in ({"submissions": 0}, {"completions": 0}):
            with self.assertRaisesRegex(gate.Failure, "counted nothing"):
                counted("echo/ring", **ring | lacking).check()
        with self.assertRaises(gate.Failure):
            counted("echo/ring", instructions=5, turns=1).check()
        counted("echo/poll", **ring | {"submissions": 0, "completions": 0}).check()


class Raising(unittest.TestCase):
    def problems(self, old, new, text=BUDGETS):
        self.assertIn(old, text)
        return gate.loosened(text.replace(old, new), text)

    def test_a_raised_budget_needs_a_reason_on_its_line(self):
        self.assertEqual(len(self.problems("= 1000", "= 1001")), 1)
        self.assertEqual(self.problems("= 1000", "= 1001  # checks more"), [])
        self.assertEqual(self.problems("= 1000", "= 999"), [])

    def test_an_old_reason_is_none(self):
        self.assertIn("without a new reason", self.problems("turns = 1 ", "turns = 2 ")[0])
        self.assertEqual(self.problems("turns = 1  # one to read", "turns = 2  # one more to write"), [])

    def test_a_raise_is_seen_however_it_is_written(self):
        for written in ("1e4", "1_001", "1001.0", "inf", "nan", "0x3e9"):
            self.assertEqual(len(self.problems("instructions = 1000", f"instructions={written}")), 1, written)
        self.assertEqual(len(gate.loosened(BUDGETS.replace('[gates."echo"]', "[gates.echo]").replace("= 1000", "= 1001"), BUDGETS)), 1)

    def test_what_is_removed_is_named_with_a_reason(self):
        self.assertIn("removed", self.problems("allocations = 0\n", "")[0])
        gone = BUDGETS.split('[gates."echo"]')[0]
        self.assertEqual(len(gate.loosened(gone, BUDGETS)), 3)
        self.assertEqual(gate.loosened(gone.replace("[gates]", "# removed echo: nobody echoes\n[gates]"), BUDGETS), [])
        said = BUDGETS.replace("[gates]", "# removed echo allocations: not asked for any more\n[gates]")
        self.assertEqual(gate.loosened(said.replace("allocations = 0\n", ""), BUDGETS), [])
        # What the base says already is no reason for the next.
        self.assertEqual(len(gate.loosened(said.replace("allocations = 0\n", ""), said)), 1)

    def test_a_wider_tolerance_needs_a_reason_too(self):
        self.assertIn("tolerance base", self.problems("base = 0.01", "base = 0.5")[0])
        self.assertIn("tolerance base", self.problems("base = 0.01\n", "")[0])


class Lowering(unittest.TestCase):
    def lowered(self, gates, rustc=None):
        """What becomes of BUDGETS, measured with `rustc`, and the notes."""
        text = BUDGETS.replace("1.0.0", rustc or gate.environment()["rustc"])
        with tempfile.TemporaryDirectory() as folder:
            kept, gate.BUDGETS = gate.BUDGETS, Path(folder) / "budgets.toml"
            self.addCleanup(setattr, gate, "BUDGETS", kept)
            gate.BUDGETS.write_text(text)
            notes = []
            gate.lower(gates, tomllib.loads(text), notes)
            return gate.BUDGETS.read_text(), notes

    def test_lowering_never_raises_and_keeps_reasons(self):
        text, notes = self.lowered([counted(instructions=123_456, allocations=0, turns=50), counted("new", copies=333)])
        self.assertTrue(text.startswith("# Why there are budgets.\n"))
        self.assertIn("turns = 0.5  # one to read, as of the new port\n", text)
        gates = tomllib.loads(text)["gates"]
        self.assertEqual(gates["echo"]["instructions"], 1000)
        self.assertEqual(gates["new"]["copies"], 3.33)
        self.assertEqual(notes, [])

    def test_another_machine_is_written_down_only_if_every_budget_is_met_on_it(self):
        text, notes = self.lowered([counted(instructions=90_000, allocations=0, turns=50)], "0.9.0")
        self.assertEqual(tomllib.loads(text)["measured"]["rustc"], gate.environment()["rustc"])
        self.assertEqual((tomllib.loads(text)["gates"]["echo"]["instructions"], notes), (900, []))

    def test_otherwise_only_what_does_not_depend_on_it_is_lowered(self):
        for gates in ([counted(instructions=90_000, allocations=1, turns=50)], [counted(instructions=90_000, turns=50)]):
            text, notes = self.lowered(gates, "0.9.0")
            found = tomllib.loads(text)
            self.assertEqual(found["measured"]["rustc"], "0.9.0")
            self.assertEqual(found["gates"]["echo"], {"instructions": 1000, "allocations": 0, "turns": 0.5})
            self.assertIn("[measured] stays", notes[0])

    def test_budgets_are_rounded_up_to_four_digits(self):
        self.assertEqual([gate.plain(gate.rounded_up(value)) for value in (0, 1, 2931, 913.2342, 0.00030941)],
                         ["0", "1", "2931", "913.3", "0.0003095"])  # fmt: skip


if __name__ == "__main__":
    unittest.main()
