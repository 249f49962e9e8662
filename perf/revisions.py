"""Binaries of this and of other revisions, built in one job by one compiler: what gate.py, ab.py and qualify.py compare."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
# Sources and artefacts of other revisions than the working tree.
OTHERS = TARGET / "revisions"


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


def build(source, wanted):
    """Builds release binaries of the sources in `source`, those of `unpack` or ROOT. `wanted` says for each binary its
    package, and where a copy of it goes."""
    target = TARGET if source == ROOT else OTHERS / "target"
    command = ["cargo", "build", "--release", "--locked"]
    for binary, (package, _) in wanted.items():
        command += ["-p", package, "--bin", binary]
    if subprocess.run(command, cwd=source, env=os.environ | {"CARGO_TARGET_DIR": str(target)}).returncode:
        raise Failure(f"{', '.join(wanted)} of {source} cannot be built")
    for binary, (_, path) in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target / "release" / binary, path)
