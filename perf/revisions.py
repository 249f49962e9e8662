"""Binaries of this and of other revisions, built in one job by one compiler: what gate.py, ab.py and qualify.py compare."""

import contextlib
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

try:
    import tomllib  # noqa: F401  for those that read budgets
except ModuleNotFoundError:
    print(f"perf/ needs Python 3.11 or newer (tomllib); this is {platform.python_version()}", file=sys.stderr)
    sys.exit(2)

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Sources and artefacts of other revisions than the working tree.
OTHERS = TARGET / "revisions"
# For a child to end what it has started.
STOP_SECONDS = 15


class Failure(Exception):
    """Why nothing can be measured."""


def capture(*command, **options):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)


def run_with_us(command, **options):
    """As subprocess.run. But if this process is stopped meanwhile, the child is told by SIGTERM, so that it can end what it
    has started itself; in a session of its own it hears that once, and not from the terminal too."""
    with subprocess.Popen(command, text=True, start_new_session=True, **options) as child:
        try:
            stdout, stderr = child.communicate()
        except BaseException:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    return subprocess.CompletedProcess(command, child.returncode, stdout, stderr)


def end(name, main):
    """Ends with what `main` returns, or with 2 and the reason: 1 is a verdict, which nothing else may give."""
    # Like SIGINT: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except (Failure, subprocess.CalledProcessError, OSError) as failure:
        print(f"{name}: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
    except Exception as odd:
        traceback.print_exc()
        print(f"{name}: {type(odd).__name__}: {odd}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def alone(folder):
    """While one has it no other process does: files in `folder` have names that all would use."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process to be done in {folder}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def merge_base(ref):
    """The merge base of `ref` and HEAD; None in a shallow clone, which may lack it. Any other lack is a mistake."""
    found = capture("git", "-C", ROOT, "merge-base", ref, "HEAD")
    if found.returncode == 0:
        return found.stdout.strip()
    if capture("git", "-C", ROOT, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        return None
    raise Failure(f"no merge base with {ref}: {found.stderr.strip() or 'no common commit'}; is it misspelt, or not fetched?")


def text_at(commit, path):
    """A file as it was in a commit; None if it was not there."""
    shown = capture("git", "-C", ROOT, "show", f"{commit}:{path}")
    return shown.stdout if shown.returncode == 0 else None


def unpack(commit, patch=None):
    """The sources of a commit, with a patch if one is given, in the one folder for other revisions; returns it.

    There is one, with a target folder of its own, since cargo names what it builds of a workspace by the path within it:
    artefacts of two folders that share a target folder pass for each other. Files are as old as their unpacking
    (-m), not as their commit, so that the workspace is built again and its dependencies are not."""
    folder = OTHERS / "source"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], capture_output=True)
    if archive.returncode:
        raise Failure(f"no sources of {commit}: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-xm", "-C", folder], input=archive.stdout, check=True)
    if patch:
        inside = f"--directory={folder.relative_to('/')}"
        applied = capture("git", "apply", "--unsafe-paths", "-C1", inside, patch, cwd="/")
        if applied.returncode:
            raise Failure(f"{patch.name} does not apply any more: {applied.stderr.strip()}")
    return folder


def build(wanted, commit=None, patch=None):
    """Builds release binaries of the working tree, or of a commit, with a patch if one is given. `wanted` says for each
    binary its package, and where a copy of it goes."""
    if commit is None:
        return compile_and_copy(ROOT, TARGET, wanted)
    with alone(OTHERS):
        return compile_and_copy(unpack(commit, patch), OTHERS / "target", wanted)


def compile_and_copy(source, target, wanted):
    command = ["cargo", "build", "--release", "--locked"]
    for binary, (package, _) in wanted.items():
        command += ["-p", package, "--bin", binary]
    if subprocess.run(command, cwd=source, env=os.environ | {"CARGO_TARGET_DIR": str(target)}).returncode:
        raise Failure(f"{', '.join(wanted)} of {source} cannot be built")
    for binary, (_, path) in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target / "release" / binary, path)
