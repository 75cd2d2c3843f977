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

for mode in faults short cancel stacks lastthread stdio handlers altstack longjmp; do
	start=$SECONDS
	if timeout 60 "$helper" "$mode" && timeout 60 "$build/quire" run --max 12M \
		--swap-dir "$PWD" -- "$helper" "$mode"; then
		echo "ok - $mode ($((SECONDS - start)) s)"
	else
		echo "not ok - $mode: status $?"
		failed=1
	fi
done
exit $failed
