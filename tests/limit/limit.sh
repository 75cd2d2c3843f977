#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/limit/limit.sh [--use SIZE] [--max MIB] - the limit is real (I3).
#
# A program that uses 512 MiB and checks every byte (eater.c) under
# `quire run --max 64M`, its anonymous memory (resident - shared of
# /proc/PID/statm) read from outside every 10 ms: never more than the limit
# plus 8 MiB plus 64 pages a fault thread.  Then the same inside a memory group
# of the kernel (cgroup v1) of limit + 32 MiB and no swap, where the kernel would
# kill it.  Both judges are tested first: without quire the watcher must see the
# 512 MiB, and the kernel's group must kill.
# time: 300
# paging
set -uo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
use=512M max_mib=64 threads=2
while [ $# -gt 1 ]; do
	case $1 in
	--use) use=$2 ;;
	--max) max_mib=$2 ;;
	--threads) threads=$2 ;;
	*) break ;;
	esac
	shift 2
done
if [ $# -gt 0 ]; then
	echo "usage: limit.sh [--use SIZE] [--max MIB] [--threads N]" >&2
	exit 2
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/quire-limit.XXXXXX") || exit 1
group=
clean() {
	# what a kill left behind may take a moment to go
	for _ in $(seq 50); do
		[ -z "$group" ] || [ ! -d "$group" ] || rmdir "$group" 2>/dev/null || { sleep 0.1; continue; }
		break
	done
	rm -rf "$work"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

fail() {
	echo "limit: FAILED: $*"
	exit 1
}

for name in statm eater; do
	cc -O2 -o "$work/$name" "$root/tests/limit/$name.c" -lpthread || fail "cannot build $name"
done
# copies that every user can read: the sampler is ours, the program anybody's
value() {
	awk -v key="$2" '$1 == key { print $2 }' "$1"
}

max=$((max_mib << 20))
allowed=$((max + (8 << 20) + 64 * 4096 * $(nproc)))
eater=("$work/eater" --use "$use" --threads "$threads")
limited=("$build/quire" run --max "$max" --stats=json --stats-file "$work/stats" -- "${eater[@]}")
export QUIRE_SWAP_DIR=$work TMPDIR=$work

# ---- the watcher can see -------------------------------------------------------
"$work/statm" -i 10 -o "$work/plain" -- "${eater[@]}" >"$work/plain.out" || fail "eater as it is"
seen=$(value "$work/plain" max_anon_bytes)
[ "$seen" -gt $((4 * allowed)) ] || fail "the watcher saw only $seen bytes without a limit"
echo "as it is: $(cat "$work/plain.out"); $((seen >> 20)) MiB seen, $(value "$work/plain" wall_s) s"

# ---- under quire -----------------------------------------------------------------
[ -x "$build/quire" ] || fail "no quire in QUIRE_BUILD; run: make"
# judge FILE WHAT: the limit held over all samples, and there were enough.
judge() {
	local seen samples

	seen=$(value "$1" max_anon_bytes) samples=$(value "$1" samples)
	echo "$2: $((seen >> 20)) MiB seen at most ($((seen - max >> 10)) KiB above the limit" \
		"of $max_mib MiB; $((allowed - max >> 10)) are allowed), $samples samples," \
		"longest gap $(value "$1" max_gap_ms) ms, $(value "$1" wall_s) s"
	[ "$seen" -le $allowed ] || fail "$2: $seen bytes, $allowed are allowed"
	# less than half of the limit: the program did not run in its memory at all
	[ "$seen" -ge $((max / 2)) ] || fail "$2: only $seen bytes seen: not the right process"
	[ "$samples" -ge 50 ] || fail "$2: only $samples samples"
}
"$work/statm" -i 10 -t 200 -o "$work/limited" -- "${limited[@]}" >"$work/out" ||
	fail "under quire: exit status $?"
cmp "$work/plain.out" "$work/out" || fail "the program says something else"
# What the group itself says it had, charges in advance and by force included.
peak=$(sed -n 's/.*"peak": *\([0-9]*\).*/\1/p' "$work/stats" | head -1)
echo "memory.peak: $((peak >> 10)) KiB"
[ "$peak" -le "$allowed" ] || fail "memory.peak is $peak bytes, $allowed are allowed"
judge "$work/limited" "under quire"

# ---- inside a kernel group -----------------------------------------------------------
memory=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts)
why=
if [ "$(id -u)" != 0 ]; then
	why="not root"
elif [ -z "$memory" ]; then
	why="no cgroup v1 memory controller is mounted"
elif [ "$(wc -l </proc/swaps)" -gt 1 ]; then
	why="kernel swap is on"
elif ! mkdir "$memory/quire-limit.$$" 2>/dev/null; then
	why="cannot make a memory group"
fi
if [ -n "$why" ]; then
	echo "kernel group: not tried: $why"
	if [ "${CI:-}" = true ] || [ "${QUIRE_REFERENCE:-}" = 1 ]; then
		exit 77
	fi
	exit 0
fi
group=$memory/quire-limit.$$
echo $((max + (32 << 20))) >"$group/memory.limit_in_bytes" || fail "cannot set the group's limit"

# in_group COMMAND...: it and its children, in the group.
in_group() {
	bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

{ in_group "${eater[@]}" >/dev/null; } 2>/dev/null
status=$?
[ $status = 137 ] || fail "the kernel's group let the program use $use (exit status $status)"
echo 0 >"$group/memory.max_usage_in_bytes"
in_group "$work/statm" -i 10 -t 200 -o "$work/inside" -- "${limited[@]}" >"$work/out" ||
	fail "inside a kernel group of limit + 32 MiB: exit status $?; $(tail -n 1 "$work/out")"
cmp "$work/plain.out" "$work/out" || fail "the program says something else"
judge "$work/inside" "inside a kernel group of $((max_mib + 32)) MiB"
echo "the kernel charged $(($(cat "$group/memory.max_usage_in_bytes") >> 20)) MiB at most"
