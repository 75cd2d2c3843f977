#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/limit/together.sh - one limit over programs that know nothing of each other.
#
# Under one `quire run`: two programs that each fill the limit; small ones that never
# page beside a large one; one that is stopped.  Their anonymous memory together
# (watch.py) stays below the limit, every word is right.  Out of memory: who is ended,
# who lives, what is said and counted, with and without memory.oom.group.  A limit that
# is lowered from outside, a group that a second run joins.
# time: 240
# paging
set -uo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
quire=$build/quire
work=$(mktemp -d "${TMPDIR:-/var/tmp}/quire-together.XXXXXX") || exit 1
export XDG_RUNTIME_DIR=$work
trap 'kill -CONT $(jobs -p) 2>/dev/null; kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP
nr=0 failed=0

verdict() {
	nr=$((nr + 1))
	if [ "$2" = 0 ]; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1"
		failed=1
	fi
}

cc -O2 -o "$work/tree" "$root/tests/limit/tree.c" || exit 1
tree=$work/tree

# together NAME LIMIT SCRIPT [OPTION...]: SCRIPT under one limit in MiB.
together() {
	local name=$1 limit=$2 script=$3 status most later settled samples
	shift 3
	read -r status most later settled _ samples _ <<<"$(python3 "$root/tests/limit/watch.py" \
		"$quire" run --max "${limit}M" --stats-file "$work/report" "$@" -- sh -c "$script" 2>"$work/err")"
	echo "# $name: $most MiB at most, $later later, $samples samples; limit $limit"
	[ "$status" = 0 ] && [ ! -s "$work/err" ] || cat "$work/err"
	[ "$status" = 0 ] && [ "$later" -gt $((limit / 2)) ] && [ "$settled" -le $((limit + 8)) ] &&
		grep -q 'out of memory 0 times, 0 killed' "$work/report"
	verdict "$name" $?
}

together 'two programs, each as large as the limit' 64 "$tree 60 0 5 & $tree 60 0 5 & wait \$!"
# Six that fit, 72 MiB; the large one gets the rest.
together 'small programs that do not page' 128 \
	"for i in 1 2 3 4 5 6; do $tree 8 0 6 & done; sleep 0.5; $tree 120 0 4; wait"
grep -q '^  group        /run, 9 processes' "$work/report"
verdict 'all are in one group' $?

# ---- one that starts later ----------------------------------------------------------------
# Both need the whole limit: neither is left with next to nothing.
resident() {
	awk '/^Pss_Anon/ { print int($2 / 1024) }' "/proc/$1/smaps_rollup"
}
"$quire" run --tree t --group f --max 64M -- "$tree" 60 0 9 &
first=$!
sleep 2
"$quire" run --tree t --group f -- "$tree" 60 0 6 &
second=$!
sleep 2
least=64 sum=0
for _ in $(seq 20); do
	mib=$(resident $second)
	sum=$((sum + mib)) least=$((mib < least ? mib : least))
	sleep 0.1
done
echo "# $((sum / 20)) MiB of 64, at least $least"
[ $sum -ge $((20 * 12)) ] && wait $first && wait $second
verdict 'a program that starts later gets its part' $?

# ---- one that is stopped ----------------------------------------------------------------
"$quire" run --tree t --group g --max 64M -- "$tree" 60 0 30 &
stopped=$!
sleep 1
kill -STOP $stopped
begin=$EPOCHREALTIME
timeout 30 "$quire" run --tree t --group g -- "$tree" 40 0 2
verdict 'a program beside one that is stopped' $?
awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "# %.1f s, of which 2 by its own choice\n", b - a; exit b - a > 20 }'
verdict 'is not held up' $?
kill -CONT $stopped

# ---- lowered from outside -----------------------------------------------------------------
before=$(resident $stopped)
"$quire" run --tree t --group g --max 24M true
for _ in $(seq 50); do
	[ "$(resident $stopped)" -le 32 ] && break
	sleep 0.1
done
after=$(resident $stopped)
echo "# $before MiB, then $after"
[ "$before" -gt 40 ] && [ "$after" -le 32 ]
verdict 'a limit that another run lowers' $?
kill -0 $stopped
verdict 'ends nobody' $?
kill $stopped
wait $stopped 2>/dev/null

# ---- out of memory ----------------------------------------------------------------------
# out OPTION...: a large and a small program, 30 and 10 MiB, none of which may leave.
out() {
	rm -f "$work/large" "$work/small"
	timeout 60 "$quire" run --max 32M --swap-max 0 --stats=json --stats-file "$work/report" "$@" -- sh -c "
		$tree 10 0 4 & small=\$!
		sleep 0.5
		$tree 30 0 4 & large=\$!
		wait \$large; echo \$? >$work/large
		wait \$small; echo \$? >$work/small; exit 3" 2>"$work/err"
	status=$?
}
# value KEY: of the events in the report.
value() {
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["events"][sys.argv[2]])' "$work/report" "$1"
}

out
[ $status = 3 ] && [ "$(cat "$work/large")" = 137 ] && [ "$(cat "$work/small")" = 0 ]
verdict 'out of memory: the largest is ended, the other lives' $?
grep -c '^quire: out of memory in group /run: process [0-9]* (tree) killed: usage [0-9]* KiB, max 32768 KiB' \
	"$work/err" | grep -qx 1
verdict 'one line says who and why' $?
[ "$(value oom)" -ge 1 ] && [ "$(value oom_kill)" = 1 ] && [ "$(value oom_group_kill)" = 0 ]
verdict 'oom and oom_kill are counted' $?
out -p memory.oom.group=1
[ $status = 137 ] && [ ! -e "$work/large" ] && [ ! -e "$work/small" ]
verdict 'memory.oom.group: all are ended' $?
[ "$(value oom_kill)" = 3 ] && [ "$(value oom_group_kill)" = 1 ]
verdict 'and counted' $?
# Another run looks for trees that have ended while the only process of one is another
# program, which is no member; the next one is again.
timeout 30 "$quire" run --max 64M -- sh -c "(exec env LD_PRELOAD= sh -c 'sleep 1.5; export LD_PRELOAD=\$0; exec true' \$LD_PRELOAD) &
	sleep 0.3" 2>"$work/err"
sleep 0.2
"$quire" run --max 32M true
sleep 2
[ ! -s "$work/err" ] || cat "$work/err"
[ ! -s "$work/err" ]
verdict 'a tree whose only process is being replaced is kept' $?

# What those processes left is removed by the next run, which removes its own.
"$quire" run --max 32M --stats-file "$work/report" true
[ -z "$(ls "$work/quire" | grep '^run:')" ]
verdict 'no tree of a run is left' $?

echo "1..$nr"
exit $failed
