#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/limit/tree.sh - one limit over a program and what it forks.
#
# A program that fills memory and forks four children, which all read it and partly
# write it (tree.c), under `quire run --max 64M`:
# every word is right in every process, and the sum of their anonymous memory
# (Pss_Anon of smaps_rollup: shared pages once), read every 20 ms, stays below the
# limit plus 8 MiB plus 2 MiB a process.  With pages that fit as long as nobody
# writes, and with more than the limit.  The judge is tested first: without quire
# it must see more.
# time: 240
# paging
set -uo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/quire-tree.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP

fail() {
	echo "tree: FAILED: $*"
	exit 1
}

cc -O2 -o "$work/tree" "$root/tests/limit/tree.c" || fail "cannot build tree"
cat >"$work/watch.py" <<'PYTHON'
import os
import subprocess
import sys
import time


def anonymous(group):
    """KiB of all processes of the group."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) != group:
                continue
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss_Anon:"))
        except OSError:
            pass
    return total


child = subprocess.Popen(sys.argv[1:], preexec_fn=os.setpgrp)
worst = samples = 0
while child.poll() is None:
    worst = max(worst, anonymous(child.pid))
    samples += 1
    time.sleep(0.02)
print(child.returncode, worst // 1024, samples)
PYTHON

# watch MIB CHILDREN [COMMAND...]: status, most MiB, samples
watch() {
	local mib=$1 children=$2
	shift 2
	python3 "$work/watch.py" "$@" "$work/tree" "$mib" "$children" 4 2>"$work/err"
}

read -r status most samples <<<"$(watch 48 4)"
[ "$status" = 0 ] || fail "alone: status $status: $(cat "$work/err")"
[ "$most" -gt 100 ] || fail "alone: the watcher saw $most MiB only"
for mib in 48 100; do
	read -r status most samples <<<"$(watch $mib 4 "$build/quire" run --max 64M --stats-file "$work/report" --)"
	[ "$status" = 0 ] || fail "$mib MiB: status $status: $(cat "$work/err")"
	grep -q '^  out of memory 0 times, 0 killed' "$work/report" || fail "$mib MiB: $(grep 'out of memory' "$work/report")"
	echo "tree: $mib MiB in five processes: at most $most MiB together, $samples samples; limit 64"
	[ "$samples" -gt 50 ] || fail "$mib MiB: $samples samples"
	[ "$most" -le $((64 + 8 + 5 * 2)) ] || fail "$mib MiB: $most MiB together"
done
