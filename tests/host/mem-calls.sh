#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mem-calls.sh [CASE...] - each memory call on memory that is out (mem_calls.c), as it
# is and under quire: right both times, and managed under quire.
# time: 200
# paging
set -uo pipefail

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
program=$build/tests/host_mem_calls
[ $# -gt 0 ] || set -- mlock mlock-limit reserve commit failing too-many mremap mremap-several grow grow-private guard advice dontfork exec syscall rlimit read-only
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
nr=0

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	[ "$2" -eq 0 ] || { failed=1; printf 'not '; }
	echo "ok $nr - $1"
}

for name; do
	timeout 60 "$program" "$name"
	verdict "$name, as it is" $?
	timeout 60 "$build/quire" run --max 16M -- "$program" --quire "$name"
	verdict "$name, under quire" $?
done

timeout 60 "$build/quire" run --max 2G -- "$program" mremap-several
verdict 'mremap-several, before anything is paged' $?
timeout 60 "$build/quire" run --max 16M --stats=json --stats-file "$tmp/stats" -- \
	"$program" --quire mlock-limit &&
	grep -Eq '"mlock_refused":[1-9]' "$tmp/stats"
verdict 'mlock-limit: refusals are counted' $?
echo "1..$nr"
exit $failed
