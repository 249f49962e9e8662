"""What all gates share: python3 -m unittest discover -s perf (a step of make test)."""

import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

import revisions
from revisions import ROOT, Failure


def git(folder, *arguments):
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


class MergeBase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.whole, self.shallow = Path(folder.name) / "whole", Path(folder.name) / "shallow"
        self.whole.mkdir()
        git(self.whole, "init", "--quiet", "--initial-branch=main")
        (self.whole / "file").write_text("first")
        git(self.whole, "add", "file")
        git(self.whole, "commit", "--quiet", "-m", "one")
        git(self.whole, "commit", "--quiet", "--allow-empty", "-m", "two")
        git(folder.name, "clone", "--quiet", "--depth=1", f"file://{self.whole}", "shallow")

    def test_it_is_found(self):
        with mock.patch.object(revisions, "ROOT", self.whole):
            commit = revisions.merge_base("HEAD^")
            self.assertRegex(commit, "^[0-9a-f]{40}$")
            self.assertEqual(revisions.text_at(commit, "file"), "first")
            self.assertIsNone(revisions.text_at(commit, "other"))

    def test_a_ref_that_is_not_there_is_a_failure(self):
        with mock.patch.object(revisions, "ROOT", self.whole), self.assertRaisesRegex(Failure, "origin/mian.*not fetched"):
            revisions.merge_base("origin/mian")

    def test_only_a_shallow_clone_may_lack_it(self):
        with mock.patch.object(revisions, "ROOT", self.shallow):
            self.assertIsNone(revisions.merge_base("HEAD^"))


class Ends(unittest.TestCase):
    def run_python(self, code):
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT / "perf", capture_output=True, text=True)

    def test_only_a_verdict_ends_with_1(self):
        for body, code in (("return 1", 1), ("return 0", 0), ("return {}['x']", 2), ("raise Failure('no')", 2), ("1 / 0", 2)):
            text = f"from revisions import *\ndef main():\n  {body}\nend('gate', main)"
            done = self.run_python(text)
            self.assertEqual(done.returncode, code, body)
            self.assertEqual("gate: " in done.stderr, code == 2)

    def test_an_old_python_is_told_what_it_lacks(self):
        for module in ("gate", "ab", "qualify", "compare"):
            done = self.run_python(f"import sys; sys.modules['tomllib'] = None; import {module}")
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
            self.assertIn("needs Python 3.11", done.stderr)


class Together(unittest.TestCase):
    def test_what_was_started_hears_that_it_is_to_end(self):
        with tempfile.TemporaryDirectory() as folder:
            ready, ended = Path(folder) / "ready", Path(folder) / "ended"
            child = (
                "import pathlib, signal\n"
                "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
                f"pathlib.Path({str(ready)!r}).touch()\n"
                "signal.sigwait([signal.SIGTERM])\n"
                f"pathlib.Path({str(ended)!r}).touch()"
            )
            code = f"from revisions import *\nend('x', lambda: run_with_us([sys.executable, '-c', {child!r}]))"
            parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT / "perf", stderr=subprocess.PIPE, text=True)
            self.addCleanup(parent.wait)
            self.addCleanup(parent.kill)
            while not ready.exists():
                self.assertIsNone(parent.poll())
            parent.terminate()
            self.assertIn("x: stopped", parent.communicate(timeout=20)[1])
            self.assertEqual(parent.returncode, 2)
            self.assertTrue(ended.exists())

    def test_two_are_not_in_one_folder_at_a_time(self):
        with tempfile.TemporaryDirectory() as folder:
            events = []
            with revisions.alone(Path(folder)):
                waiting = threading.Event()
                with mock.patch("builtins.print", lambda *_, **__: waiting.set()):
                    other = threading.Thread(target=self.enter, args=(folder, events))
                    other.start()
                    self.assertTrue(waiting.wait(20))
                    events.append("first")
            other.join(20)
            self.assertEqual(events, ["first", "second"])

    def enter(self, folder, events):
        with revisions.alone(Path(folder)):
            events.append("second")


if __name__ == "__main__":
    unittest.main()
