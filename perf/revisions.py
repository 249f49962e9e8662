"""Binaries of this and of other revisions, built in one job by one compiler: what gate.py, ab.py and qualify.py compare."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


class Failure(Exception):
    """Why nothing can be measured."""


def capture(*command, **options):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)


def merge_base(ref):
    """The merge base of `ref` and HEAD, or why there is none: (commit, None) or (None, reason)."""
    found = capture("git", "-C", ROOT, "merge-base", ref, "HEAD")
    if found.returncode == 0:
        return found.stdout.strip(), None
    shallow = capture("git", "-C", ROOT, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"
    return None, "the clone is shallow" if shallow else found.stderr.strip() or "no common commit"


def sources(commit, folder):
    """Unpacks a commit into `folder`, which is emptied first. Returns `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], capture_output=True)
    if archive.returncode:
        raise Failure(f"no sources of {commit}: {archive.stderr.decode().strip()}")
    # -m: files are as old as their unpacking, not as their commit; else cargo takes what it built of another for theirs.
    subprocess.run(["tar", "-xm", "-C", folder], input=archive.stdout, check=True)
    return folder


def build(source, wanted):
    """Builds release binaries of the sources in `source`: `wanted` says for each binary its package and where a copy goes.
    The target folder is shared: only what differs is built, and the next build replaces the binaries in it."""
    command = ["cargo", "build", "--release", "--locked"]
    for binary, (package, _) in wanted.items():
        command += ["-p", package, "--bin", binary]
    if subprocess.run(command, cwd=source, env=os.environ | {"CARGO_TARGET_DIR": str(TARGET)}).returncode:
        raise Failure(f"{', '.join(wanted)} of {source} cannot be built")
    for binary, (_, path) in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TARGET / "release" / binary, path)
