#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-thread.sh - threads and signals under quire run: whoever faults gets the right
# bytes, whoever dies, jumps or is interrupted leaves nothing behind.
#
# paging
# time: 240
set -uo pipefail

build=${QUIRE_BUILD:-${QUIRE_ROOT:-$PWD}/build}
helper=$build/tests/host_proc_thread
failed=0

# Right, and something was brought back.
limited() { # PAGER MODE
	rm -f stats
	timeout -k 1 60 "$build/quire" run --max 12M --pager "$1" --swap-dir "$PWD" \
		--stats=json --stats-file stats -- "$helper" "$2" &&
		[ "$(grep -o '"hard":[0-9]*' stats | head -n 1 | cut -d: -f2)" -gt 200 ]
}

for mode in faults short cancel stacks lastthread stdio handlers altstack longjmp; do
	start=$SECONDS
	if timeout 60 "$helper" "$mode" && limited uffd_move "$mode" &&
		{ [ "$mode" = stdio ] || limited uffd_copy "$mode"; }; then
		echo "ok - $mode ($((SECONDS - start)) s)"
	else
		echo "not ok - $mode: status $?"
		failed=1
	fi
done
exit $failed
