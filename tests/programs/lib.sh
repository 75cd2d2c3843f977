# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# lib.sh - what the tests of unmodified programs share (sourced; see run).
#
# A test makes its input, then says
#
#	compare [-i STDIN] [-c NAME] -- COMMAND [ARG]...
#
# which runs the command as it is, watching its anonymous memory from outside
# (tests/limit/statm.c), and again under `quire run` with a quarter of that as
# the limit.  Standard output, standard error and exit status must be the same;
# pages must really have gone out; and the largest process must have kept
# within the limit plus what design.md allows (I3).  -c NAME: only processes of
# that name count for the peak (a driver that starts the real program).
#
# A test with a server uses the parts: plain, limited, check_limited.
#
# A program of several processes says compare_tree, or uses plain_tree, limited_tree,
# check_tree: the limit is a third of what all of them have together, and the judge
# tests/limit/watch.py.
#
# PREPARE=DIR (bench/programs): no run, only the input, in DIR, and in DIR/command what
# would be compared: the file on standard input and the command, each ended by a zero.
#
# From run: SIZE (ci or full), MEASURE (1: only the run without quire),
# QUIRE_ROOT, QUIRE_BUILD, TMPDIR.

set -uo pipefail
# where verdicts go, whatever a test redirects
exec 3>&1
export LC_ALL=C LANG=C TZ=UTC
# Debian's programs, whatever else the machine's owner put in front of them
export PATH=/usr/bin:/bin:/usr/sbin:/sbin

: "${QUIRE_ROOT:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
: "${QUIRE_BUILD:=$QUIRE_ROOT/build}"
: "${SIZE:=ci}" "${MEASURE:=0}"
QUIRE=$QUIRE_BUILD/quire
# $0 is the program's own script
NAME=$(basename "$0" .sh)
if [ -n "${PREPARE:-}" ]; then
	work=$PREPARE
else
	work=$(mktemp -d "${TMPDIR:-/var/tmp}/quire-$NAME.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
fi
# what I3 grants on top of the limit: 8 MiB and 64 pages a fault thread
slack=$((8 * 1024 * 1024 + 64 * 4096 * $(nproc)))

fail() {
	echo "$NAME: FAILED: $*" >&3
	exit 1
}

skip() {
	echo "$NAME: skipped: $*" >&3
	exit 77
}

# need COMMAND...: without one the test is skipped.
need() {
	local c
	for c; do
		command -v "$c" >/dev/null || skip "no $c here; dev/packages names its package"
	done
}

# by_size CI FULL: the word for this size.
by_size() {
	[ "$SIZE" = full ] && echo "$2" || echo "$1"
}

gen() {
	python3 "$QUIRE_ROOT/tests/programs/gen.py" "$@" || fail "no input: gen.py $*"
}

# The watcher, built or compiled here.
statm() {
	local source=$QUIRE_ROOT/tests/limit/statm.c

	if [ ! -x "$work/statm" ]; then
		if [ "$QUIRE_BUILD/tests/limit_statm" -nt "$source" ]; then
			cp "$QUIRE_BUILD/tests/limit_statm" "$work/statm"
		else
			cc -O2 -o "$work/statm" "$source" || fail "cannot build the watcher"
		fi
	fi
	"$work/statm" "$@"
}

# value FILE KEY: of a file of "key value" lines.
value() {
	awk -v key="$2" '$1 == key { print $2; found = 1 } END { exit !found }' "$1" ||
		fail "no $2 in $1"
}

# stat_of KEY: of the report that `quire run --stats=json` left.
stat_of() {
	python3 "$QUIRE_ROOT/tests/programs/stat.py" "$work/stats.json" "$1" || fail "report: no $1"
}

mib() {
	awk -v b="$1" 'BEGIN { printf "%.1f", b / 1048576 }'
}

# plain [-c NAME] COMMAND...: as it is, watched; sets peak and plain_s.
plain() {
	local rc=0 only=()

	if [ "$1" = -c ]; then
		only=(-c "$2")
		shift 2
	fi
	statm "${only[@]}" -o "$work/plain.statm" -- "$@" || rc=$?
	peak=$(value "$work/plain.statm" max_anon_bytes) || exit 1
	plain_s=$(value "$work/plain.statm" wall_s) || exit 1
	return $rc
}

# A quarter of the peak, in whole MiB.
quarter() {
	max=$((peak / 4 / 1048576 * 1048576))
	[ $max -ge 8388608 ] || fail "the program uses too little: $(mib "$peak") MiB"
}

# How long the second run may take before it counts as hung: programs that walk
# all of their memory at random are slowed by the ratio of a fault to an access.
bound() {
	awk -v s="$plain_s" -v full="$(by_size 0 1)" \
		'BEGIN { printf "%d", full ? 600 + 200 * s : 60 + 40 * s }'
}

# limited [-c NAME] COMMAND...: under quire run at $max, watched.
limited() {
	local rc=0 only=()

	if [ "$1" = -c ]; then
		only=(-c "$2")
		shift 2
	fi
	[ -x "$QUIRE" ] || fail "no quire in QUIRE_BUILD; run: make"
	QUIRE_SWAP_DIR=$work statm "${only[@]}" -t "$(bound)" -o "$work/limited.statm" -- \
		"$QUIRE" run --max "$max" --stats=json --stats-file "$work/stats.json" \
		-- "$@" || rc=$?
	[ $rc != 124 ] || fail "not done after $(bound) s; without quire it takes $plain_s s"
	return $rc
}

# Paging happened, and the limit held: by the kernel's figures and by quire's own.
check_limited() {
	local seen out wanted limited_s own

	seen=$(value "$work/limited.statm" max_anon_bytes) || exit 1
	limited_s=$(value "$work/limited.statm" wall_s) || exit 1
	out=$(stat_of swap_peak) && own=$(stat_of peak) || exit 1
	# at least half of what does not fit must have been out at one time
	wanted=$(((peak - max) / 2))
	echo "$NAME: same output; uses $(mib "$peak") MiB, limit $(mib "$max")," \
		"seen at most $(mib "$seen"), $(mib "$out") out, $(stat_of faults.hard) hard faults;" \
		"$limited_s s, $plain_s as it is"
	[ "$out" -ge $wanted ] || fail "at most $out bytes were out, not $wanted: it did not page"
	[ "$seen" -le $((max + slack)) ] ||
		fail "limit $max, but $seen bytes of anonymous memory were seen" \
			"in $(value "$work/limited.statm" max_anon_comm)" \
			"($((seen - max - slack)) more than the slack allows)"
	# a forked child is charged by force for what its parent has in memory
	[ "$own" -le $((max + slack + ${FORKS:-0} * max)) ] || fail "memory.peak is $own, the limit $max"
}

compare() {
	local in=/dev/null only=() rc1=0 rc2=0

	while [ "$1" != -- ]; do
		case $1 in
		-i) in=$2 ;;
		-c) only=(-c "$2") ;;
		*) fail "compare $1" ;;
		esac
		shift 2
	done
	shift
	if [ -n "${PREPARE:-}" ]; then
		printf '%s\0' "$in" "$@" >"$work/command"
		return
	fi
	plain "${only[@]}" "$@" <"$in" >"$work/plain.out" 2>"$work/plain.err" || rc1=$?
	[ $rc1 = 0 ] || fail "without quire: exit status $rc1: $(tail -n 3 "$work/plain.err")"
	if [ "$MEASURE" = 1 ]; then
		measured
		return
	fi
	quarter
	limited "${only[@]}" "$@" <"$in" >"$work/limited.out" 2>"$work/limited.err" || rc2=$?
	[ $rc2 = 0 ] || fail "under quire: exit status $rc2: $(tail -n 5 "$work/limited.err")"
	same
	check_limited
}

# ---- processes together -----------------------------------------------------------------

# the command that makes them another user's
as=()

# watch HOW SECONDS COMMAND...: sets most, settled, nr and wall_s.
watch() {
	local file=$work/$1.watch seconds=$2 rc=0

	shift 2
	python3 "$QUIRE_ROOT/tests/limit/watch.py" -t "$seconds" -o "$file" "${as[@]}" "$@" || rc=$?
	read -r _ most _ settled nr _ wall_s <"$file" || fail "the watcher failed"
	return $rc
}

# plain_tree COMMAND...: as it is; sets peak and plain_s.
plain_tree() {
	local rc=0

	watch plain 300 "$@" || rc=$?
	peak=$((most * 1048576)) plain_s=$wall_s
	return $rc
}

# limited_tree COMMAND...: under quire run, all at $max; a third of the peak, or what
# TREE_SHARE says.
limited_tree() {
	local rc=0

	max=$((peak / ${TREE_SHARE:-3} / 1048576 * 1048576))
	[ $max -ge 8388608 ] || fail "the processes use too little: $(mib "$peak") MiB"
	[ -x "$QUIRE" ] || fail "no quire in QUIRE_BUILD; run: make"
	QUIRE_SWAP_DIR=$work watch limited "$(bound)" "$QUIRE" run --max "$max" \
		--stats=json --stats-file "$work/stats.json" -- "$@" || rc=$?
	[ $rc != 124 ] || fail "not done after $(bound) s; without quire it takes $plain_s s"
	return $rc
}

# Paging happened, nobody was ended, and the limit held: together, while none was forked in
# the last two seconds; 4 MiB more a process while one was (doc/processes.md).
check_tree() {
	local out wanted

	out=$(stat_of swap_peak) || exit 1
	wanted=$(((peak - max) / 2))
	echo "$NAME: same output; $nr processes use $(mib "$peak") MiB, limit $(mib "$max"), seen at" \
		"most $most ($settled less forks), $(mib "$out") out, $(stat_of faults.hard) hard faults;" \
		"$wall_s s, $plain_s as it is"
	[ "$out" -ge $wanted ] || fail "at most $out bytes were out, not $wanted: it did not page"
	[ "$(stat_of events.oom_kill)" = 0 ] || fail "a process was ended"
	[ "$settled" -le $((max / 1048576 + 8)) ] ||
		fail "limit $(mib "$max") MiB, but $settled MiB less what forks may cost were seen"
}

compare_tree() {
	local rc1=0 rc2=0

	plain_tree "$@" >"$work/plain.out" 2>"$work/plain.err" || rc1=$?
	[ $rc1 = 0 ] || fail "without quire: exit status $rc1: $(tail -n 3 "$work/plain.err")"
	if [ "$MEASURE" = 1 ]; then
		measured
		return
	fi
	limited_tree "$@" >"$work/limited.out" 2>"$work/limited.err" || rc2=$?
	[ $rc2 = 0 ] || fail "under quire: exit status $rc2: $(tail -n 5 "$work/limited.err")"
	same
	check_tree
}

# What both runs have said.
same() {
	cmp "$work/plain.out" "$work/limited.out" || fail "the output differs"
	cmp "$work/plain.err" "$work/limited.err" ||
		fail "standard error differs: $(diff "$work/plain.err" "$work/limited.err" | head -n 5)"
}

measured() {
	echo "$NAME ($SIZE): peak anonymous $(mib "$peak") MiB, $plain_s s"
}
