#!/usr/bin/python3
"""Runs a command under a seccomp profile of a container runtime, where there is no container runtime.

    deploy/under-seccomp.py PROFILE.json COMMAND [ARGUMENT…]

As runc does, by libseccomp: no new privileges, the filter, then exec. Names that this machine's architecture lacks are
skipped. Exit: the command's own, 2 for a profile that cannot be loaded. Needs Debian's python3-seccomp.
"""

import ctypes
import json
import os
import sys

import seccomp

ACTIONS = {"SCMP_ACT_ALLOW": lambda _: seccomp.ALLOW, "SCMP_ACT_ERRNO": seccomp.ERRNO}
OPERATORS = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_NE": seccomp.NE, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}
PR_SET_NO_NEW_PRIVS = 38


def argument(condition):
    """One condition on an argument of a call."""
    operator = condition["op"]
    values = [condition["value"]]
    if operator == "SCMP_CMP_MASKED_EQ":
        values.append(condition.get("valueTwo", 0))
    return seccomp.Arg(condition["index"], OPERATORS[operator], *values)


def load(profile):
    """Puts this process, and all that it executes, under the profile."""
    default = ACTIONS[profile["defaultAction"]](profile["defaultErrnoRet"])
    rules = seccomp.SyscallFilter(default)
    for entry in profile["syscalls"]:
        action = ACTIONS[entry["action"]](entry.get("errnoRet", profile["defaultErrnoRet"]))
        for name in entry["names"]:
            if seccomp.resolve_syscall(seccomp.Arch(), name) < 0:
                continue
            rules.add_rule(action, name, *map(argument, entry.get("args", [])))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    rules.load()


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__.strip())
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            load(json.load(file))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        print(f"{sys.argv[1]}: {error!r}", file=sys.stderr)
        sys.exit(2)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
