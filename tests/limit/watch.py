#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""watch.py [-t SECONDS] [-o FILE] COMMAND...: run it, and what its processes have in
memory together.

Anonymous memory of the command and all its descendants, shared pages once (Pss_Anon of
smaps_rollup), every 20 ms.  Says the exit status; the most MiB; the most MiB while no
process was younger than two seconds; the most MiB with 4 MiB a process less while one
was; the most processes; the number of samples; the seconds it took.  -o: into FILE, with the command's exit
status as its own.  -t: then everything is killed, status 124.
"""
import contextlib
import ctypes
import getopt
import os
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
YOUNG_S = 2
YOUNG_KIB = 4096


def tree(root):
    """The pids of root and what descends from it, or from us: orphans."""
    below, found = {}, []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                state, parent = stat.read().rpartition(")")[2].split()[:2]
            if state != "Z":
                below.setdefault(int(parent), []).append(int(pid))
        except OSError:
            pass
    todo = [root] + [pid for pid in below.get(os.getpid(), []) if pid != root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += below.get(pid, [])
    return found


def anonymous(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return sum(int(line.split()[1]) for line in rollup if line.startswith("Pss_Anon:"))
    except OSError:
        return 0


def watch(child, seconds):
    born, most, later, settled, most_nr, samples = {}, 0, 0, 0, 0, 0
    begin = time.monotonic()
    while child.poll() is None:
        now = time.monotonic()
        pids = tree(child.pid)
        kib = sum(map(anonymous, pids))
        born = {pid: born.get(pid, now) for pid in pids}
        young = now - max(born.values()) < YOUNG_S
        most = max(most, kib)
        later = max(later, 0 if young else kib)
        settled = max(settled, kib - (YOUNG_KIB * len(pids) if young else 0))
        most_nr, samples = max(most_nr, len(pids)), samples + 1
        if seconds and now - begin > seconds:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.wait()
            child.returncode = 124
        time.sleep(0.02)
    return (child.returncode, most // 1024, later // 1024, settled // 1024, most_nr, samples,
            round(time.monotonic() - begin, 2))


def main():
    options, command = getopt.getopt(sys.argv[1:], "o:t:")
    options = dict(options)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(command)
    said = watch(child, float(options.get("-t", 0)))
    if "-o" not in options:
        print(*said)
        return 0
    with open(options["-o"], "w") as out:
        print(*said, file=out)
    return said[0] if said[0] >= 0 else 128 - said[0]


sys.exit(main())
