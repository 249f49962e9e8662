"""What loadgen-matrix.sh makes of reports, with a server and a loadgen that only pretend: a step of make test."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from revisions import ROOT

SERVER = f"""#!{sys.executable}
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("Listening on 127.0.0.1:9", file=sys.stderr, flush=True)
signal.sigwait([signal.SIGTERM])
"""
# Writes REPORT to the file after --json, but in its second run.
LOADGEN = """#!/bin/sh
[ ! -e HERE/was-here ] || { echo crashed; exit 1; }
touch HERE/was-here
while [ "$1" != --json ]; do shift; done
cp HERE/report "$2"
"""
LATENCY = {"p50": 100, "p99": 200}
REPORT = {
    "verdict": "VALID", "failure": None, "reasons": [], "connections": {"connect_seconds": 0.1}, "server": None,
    "generator": {"cpu_us_per_received": 0.1}, "latency_us": {"response": LATENCY, "lateness": LATENCY},
    "received": 5, "expected": 5, "sent": 1, "scheduled": 1,
    **dict.fromkeys(("lost", "duplicated", "reordered", "corrupted", "foreign", "misrouted"), 0),
}  # fmt: skip


@unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "one core for the server, one for loadgen")
class Matrix(unittest.TestCase):
    def test_a_case_without_a_report_has_no_row_and_fails(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "release").mkdir()
            (folder / "report").write_text(json.dumps(REPORT))
            for program, text in (("ringrelay", SERVER), ("loadgen", LOADGEN)):
                path = folder / "release" / program
                path.write_text(text.replace("HERE", name))
                path.chmod(0o755)
            environment = os.environ | {"CARGO_TARGET_DIR": name, "CASES": "^1000 relay ws "}
            done = subprocess.run([ROOT / "perf" / "loadgen-matrix.sh", folder / "out"], env=environment, capture_output=True, text=True)
            rows = (folder / "out" / "matrix.md").read_text().splitlines()[2:]
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual([row.split(" |")[0] for row in rows], ["| 1000 relay ws epoll"])
        self.assertIn("crashed", done.stderr)


if __name__ == "__main__":
    unittest.main()
