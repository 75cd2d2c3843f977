#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mem-buffers.sh - system calls whose buffers are paged out (mem_buffers.c), as it is
# and under quire, with the compressed pool and with the store alone.
# time: 200
# paging
set -uo pipefail

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
program=$build/tests/host_mem_buffers
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
nr=0

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	[ "$2" -eq 0 ] || { failed=1; printf 'not '; }
	echo "ok $nr - $1"
}

timeout 60 "$program"
verdict 'as it is' $?
timeout 60 "$build/quire" run --max 16M --stats=json --stats-file "$tmp/stats" -- "$program"
verdict 'under quire' $?
python3 -c 'import json, sys
n = json.load(open(sys.argv[1]))["stat"]["pswpout"]
print("paged out:", n)
sys.exit(n < 10000)' "$tmp/stats"
verdict 'more than 10000 pages went out' $?
timeout 60 "$build/quire" run --max 16M --zswap-max 0 -- "$program"
verdict 'under quire, nothing compressed' $?
echo "1..$nr"
exit $failed
