#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""watch.py N COMMAND...: run it, and what its processes have in memory together.

Anonymous memory of all processes of its process group, shared pages once (Pss_Anon of
smaps_rollup), every 20 ms.  Prints the exit status, the most MiB, the most MiB from two
seconds after there were N processes, and the number of samples.
"""
import os
import subprocess
import sys
import time


def anonymous(group):
    """KiB of all processes of the group, and how many there are."""
    total = nr = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) != group:
                continue
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss_Anon:"))
            nr += 1
        except OSError:
            pass
    return total, nr


child = subprocess.Popen(sys.argv[2:], preexec_fn=os.setpgrp)
seen = []
while child.poll() is None:
    seen.append((*anonymous(child.pid), time.monotonic()))
    time.sleep(0.02)
forked = next((when for _, nr, when in seen if nr >= int(sys.argv[1])), 0)
worst = max(kib for kib, _, _ in seen)
later = max((kib for kib, _, when in seen if when > forked + 2), default=0)
print(child.returncode, worst // 1024, later // 1024, len(seen))
