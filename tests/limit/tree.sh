#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/limit/tree.sh - one limit over a program and what it forks.
#
# A program that fills memory and forks four children, which all read it and partly
# write it (tree.c), under `quire run --max 64M`:
# every word is right in every process, and the sum of their anonymous memory
# (Pss_Anon of smaps_rollup: shared pages once), read every 20 ms, stays below the
# limit plus 8 MiB; in the first two seconds after the forks, while what was charged
# by force is reclaimed and copied at the same time, plus 4 MiB a process.  With pages
# that fit as long as nobody writes, and with more than the limit.  The judge is tested
# first: without quire it must see more.
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

# watch MIB CHILDREN [COMMAND...]: what watch.py says
watch() {
	local mib=$1 children=$2
	shift 2
	python3 "$root/tests/limit/watch.py" "$@" "$work/tree" "$mib" "$children" 4 2>"$work/err"
}

read -r status most later settled _ samples _ <<<"$(watch 48 4)"
[ "$status" = 0 ] || fail "alone: status $status: $(cat "$work/err")"
[ "$most" -gt 100 ] || fail "alone: the watcher saw $most MiB only"
for mib in 48 100; do
	read -r status most later settled _ samples _ <<<"$(watch $mib 4 "$build/quire" run --max 64M --stats-file "$work/report" --)"
	[ "$status" = 0 ] || fail "$mib MiB: status $status: $(cat "$work/err")"
	grep -q '^  out of memory 0 times, 0 killed' "$work/report" || fail "$mib MiB: $(grep 'out of memory' "$work/report")"
	echo "tree: $mib MiB in five processes: at most $most MiB together, $later after two seconds, $samples samples; limit 64"
	[ "$samples" -gt 50 ] || fail "$mib MiB: $samples samples"
	[ "$later" -gt 30 ] || fail "$mib MiB: $later MiB after two seconds: too little to judge"
	[ "$settled" -le $((64 + 8)) ] || fail "$mib MiB: $most MiB together, $later after two seconds"
done
