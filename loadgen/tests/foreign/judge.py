"""Says whether the books of a loadgen report balance and nothing went wrong.

    judge.py REPORT.json        Exit: 0 they do; 1 they do not, with what is wrong
"""

import json
import sys
from pathlib import Path

report = json.loads(Path(sys.argv[1]).read_text())
wrong = []
if report["failure"]:
    wrong.append(report["failure"])
wrong += [f"{key} {report[key]}" for key in ("lost", "duplicated", "reordered", "corrupted", "foreign", "misrouted") if report[key]]
wrong += [f"{key} 0" for key in ("sent", "received") if not report[key]]
if report["received"] != report["expected"]:
    wrong.append(f"{report['received']} of {report['expected']} received")
if report["connections"]["ended"]:
    wrong.append(f"{report['connections']['ended']} connections ended: {report['connections']['reasons']}")
if wrong:
    sys.exit("; ".join(wrong))
