"""ci/github.yml as GitHub runs it: its steps on a scratch repository, where the pull request changes a submodule that says
how much a delivery costs. The server is loadgen's null peer. Needs `cargo build -p loadgen`, git, and two cores."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml
from revisions import ROOT, TARGET

WORKFLOW = yaml.safe_load((ROOT / "perf" / "ci" / "github.yml").read_text())
STEPS = WORKFLOW["jobs"]["cpu-per-delivery"]["steps"]
RUNS = {step["name"]: step for step in STEPS if "run" in step}
LOADGEN = TARGET / "debug" / "loadgen"
EXPRESSION = re.compile(r"\$\{\{ *(\S+) *\}\}")
EXPRESSIONS = {"github.base_ref": "main"}
SETTINGS = {
    "LOADGEN_REPOSITORY": "example/ringrelay",
    "LOADGEN_COMMIT": "0123456789" * 4,
    "BUILD": "cp cost/work-ns built",
    "START": "sh server {port}",
    "LOAD": "--subscribers 20 --publishers 1 --rate 150",
    "MEASURE": "--warmup 40ms --duration 240ms --pairs 7",
}
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": "1",
    # A submodule that lies on this machine.
    "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
} | {f"GIT_{who}_{what}": "nobody@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# What the runner has: the compiler, which only has to seem to be one.
TOOLS = {
    "rustc": "echo 'rustc 1.95.0 (0123456789 2026-04-14)'",
    "cargo": f"[ \"$*\" = 'build --release --locked -p loadgen' ] && mkdir -p target/release && ln -s '{LOADGEN}' target/release/loadgen",
}
# A busy machine gives no result: then the comparison is asked again.
TRIES = 3


def git(folder, *arguments):
    subprocess.run(["git", "-C", folder, *arguments], env=os.environ | GIT, check=True, capture_output=True, timeout=60)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Runner:
    """A runner's folder with the repository at `main` and at a pull request, checked out like by actions/checkout."""

    def __init__(self, folder, base_ns, head_ns):
        self.workspace, self.repository, self.tools = folder / "workspace", folder / "repository", folder / "tools"
        self.summary, self.output = folder / "summary", folder / "output"
        for name, script in TOOLS.items():
            write(self.tools / name, f"#!/bin/sh\n{script}\n")
            (self.tools / name).chmod(0o755)
        cost = folder / "cost"
        git(folder, "init", "-q", "-b", "main", cost)
        self.commit(cost, "work-ns", f"{base_ns}\n")
        git(folder, "init", "-q", "-b", "main", self.repository)
        git(self.repository, "submodule", "add", cost, "cost")
        self.commit(self.repository, "server", f"exec '{LOADGEN}' peer fanout --listen 127.0.0.1:$1 --work-ns $(cat built)\n")
        git(self.repository, "checkout", "-q", "-b", "pull")
        self.commit(cost, "work-ns", f"{head_ns}\n")
        git(self.repository / "cost", "pull", "-q")
        self.commit(self.repository, "README", "The pull request.\n")
        # The base goes on meanwhile: what counts is the merge base.
        git(self.repository, "checkout", "-q", "main")
        self.commit(self.repository, "server", "exit 1\n")
        (self.workspace / "ringrelay").mkdir(parents=True)
        git(self.workspace, "clone", "-q", "--recurse-submodules", "--branch", "pull", self.repository, "head")

    @staticmethod
    def commit(folder, name, text):
        write(folder / name, text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "--allow-empty", "-m", name)

    def run(self, name, wrapper=(), **settings):
        """Runs a step: the exit code, and what it said."""
        step = RUNS[name]
        expanded = {key: EXPRESSION.sub(lambda found: EXPRESSIONS[found[1]], value) for key, value in step.get("env", {}).items()}
        environment = os.environ | GIT | WORKFLOW["env"] | SETTINGS | settings | expanded
        environment |= {"GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output)}
        environment["PATH"] = f"{self.tools}:{environment['PATH']}"
        done = subprocess.run(
            [*wrapper, "bash", "--noprofile", "--norc", "-e", "-c", step["run"]], env=environment, text=True, timeout=120,
            cwd=self.workspace / step.get("working-directory", ""), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def run_all(self, **settings):
        """Runs all steps in their order up to the first that fails: its exit code, and what the last one said."""
        for name in RUNS:
            code, said = self.run(name, **settings)
            if code:
                break
        return code, said

    def compare(self, **settings):
        """All steps; the last once more while it has no result."""
        code, said = self.run_all(**settings)
        for _ in range(TRIES - 1):
            if code or "inconclusive" not in said:
                break
            code, said = self.run("Compare", **settings)
        return code, said


class Text(unittest.TestCase):
    def test_nothing_from_outside_is_pasted_into_a_shell(self):
        for name, step in RUNS.items():
            self.assertNotIn("${{", step["run"], name)

    def test_checkouts_keep_no_credentials(self):
        checkouts = [step["with"] for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
        self.assertEqual([checkout["persist-credentials"] for checkout in checkouts], [False, False])

    def test_every_setting_is_used(self):
        whole = str(STEPS)
        for name in WORKFLOW["env"]:
            self.assertRegex(whole, rf"(\$|env\.){name}\b")


class Steps(unittest.TestCase):
    def setUp(self):
        if not LOADGEN.exists():
            self.skip(f"{LOADGEN} is not built")
        if len(os.sched_getaffinity(0)) < 2:
            self.skip("one core")
        folder = tempfile.TemporaryDirectory(prefix="ringrelay-workflow-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def skip(self, why):
        # .ci/test looks for this line.
        print(f"\nSKIPPED perf/test_workflow.py: {why}", flush=True)
        self.skipTest(why)

    def test_the_same_servers_pass_and_idle_ones_are_warned_of(self):
        runner = Runner(self.folder, 40_000, 40_000)
        code, said = runner.compare(LOAD="--subscribers 20 --publishers 1 --rate 100")
        self.assertEqual(code, 0, said)
        self.assertNotIn("::error::", said)
        self.assertIn("::warning::A used 0.", said)
        self.assertIn("cores used under the load: A 0.", runner.summary.read_text())
        self.assertEqual(runner.output.read_text(), "version=1.95.0\n")

    def test_a_server_that_costs_more_fails(self):
        runner = Runner(self.folder, 100_000, 200_000)
        code, said = runner.compare()
        self.assertEqual(code, 1, said)
        self.assertRegex(said, r"::error::B is the pull request.*>\+5%: worse, and the estimate lies above the limit")
        self.assertTrue((runner.workspace / "ab.json").exists() and "worse" in runner.summary.read_text())

    def test_a_server_that_does_not_start_is_no_comparison(self):
        code, said = Runner(self.folder, 1, 1).run_all(START="sh server-that-is-not-there {port}")
        self.assertEqual(code, 4, said)
        self.assertRegex(said, r"instead of listening(.|\n)*::error::loadgen could not compare them \(exit 4\)")

    def test_what_is_not_filled_in_is_said_and_one_core_too(self):
        runner = Runner(self.folder, 1, 1)
        for name in ("LOADGEN_REPOSITORY", "LOADGEN_COMMIT"):
            code, said = runner.run_all(**{name: WORKFLOW["env"][name]})
            self.assertEqual((code, said.count("\n")), (1, 1), said)
            self.assertIn("::error::fill in LOADGEN_REPOSITORY and LOADGEN_COMMIT", said)
        code, said = runner.run("Settings and runner", wrapper=("taskset", "-c", str(min(os.sched_getaffinity(0)))))
        self.assertEqual(code, 1, said)
        self.assertIn("::error::this runner has one core", said)


if __name__ == "__main__":
    unittest.main()
