#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
start-cost.py - what quire adds to the start of a program, in system calls and page faults:
their number is the same each time, and says without a clock when a start gets slower.

A change that makes a start cheaper lowers the budget with it: one that is too generous
guards nothing, so that too is a failure.
"""
# paging
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(os.environ.get("QUIRE_ROOT", pathlib.Path(__file__).parents[2]))
QUIRE = str(pathlib.Path(os.environ.get("QUIRE_BUILD", ROOT / "build")) / "quire")
TRIES = 5  # the smallest counts: other runs' trees make some more
SLACK = 0.15  # kernels differ in what they map around a fault,
SLACK_MIN = 8  # by a few pages from run to run too

# (system calls, page faults) more than without quire
BUDGET = {
    "quire run true": (163, 91),
    "true in a run": (57, 34),
    "quire run sh": (184, 150),
    "sh in a run": (78, 95),
}


def system_calls(command, env):
    """Of the process that becomes the last program of command, from its first execve(2) on."""
    subprocess.run(["strace", "-f", "-qq", "-e", "signal=none", "-o", "calls", *command],
                   env=env, check=True)
    lines = [line.split(None, 1) for line in pathlib.Path("calls").read_text().splitlines()]
    lines = [(pid, text) for pid, text in lines if "resumed>" not in text]
    last = [pid for pid, text in lines if text.startswith("execve(")][-1]
    texts = [text for pid, text in lines if pid == last]
    return len(texts) - next(n for n, text in enumerate(texts) if text.startswith("execve("))


def page_faults(command, env):
    pid = os.posix_spawn(command[0], command, env)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{command}: wait status {status:#x}")
    return usage.ru_minflt


def least(count, command):
    plain = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "QUIRE_RUN")}
    return min(count(command, plain) for _ in range(TRIES))


def costs():
    """name, system calls, page faults, each more than without quire."""
    run = [QUIRE, "run", "--max", "512M", "--"]
    # Leaves its tree for the next one to remove, as each of them does.
    subprocess.run([*run, "/bin/true"], check=True)
    for name, command in (("true", ["/bin/true"]), ("sh", ["/bin/sh", "-c", ":"])):
        calls, faults = least(system_calls, command), least(page_faults, command)
        yield (f"quire run {name}", least(system_calls, run + command) - calls,
               least(page_faults, run + command) - faults)
        by_shell = [*run, "/bin/sh", "-c", f'{shlex.join(command)}; exit']
        by_us = [*run, sys.executable, __file__, *command]
        inside = subprocess.run(by_us, stdout=subprocess.PIPE, check=True).stdout
        yield (f"{name} in a run", least(system_calls, by_shell) - calls, int(inside) - faults)


def is_good(name, calls, faults):
    good = all(abs(got - budget) <= max(SLACK * budget, SLACK_MIN)
               for got, budget in zip((calls, faults), BUDGET[name]))
    print(f"{'ok' if good else 'not ok'} - {name}: {calls} system calls and {faults} page faults "
          f"more, budget {BUDGET[name]} "
          f"+- {100 * SLACK:.0f} %, at least {SLACK_MIN}")
    return good


def main():
    if len(sys.argv) > 1:  # in a run, of which our children are too
        print(min(page_faults(sys.argv[1:], os.environ) for _ in range(TRIES)))
        return 0
    if not shutil.which("strace"):
        print("no strace")
        return 77
    return not all([is_good(*cost) for cost in costs()])


sys.exit(main())
