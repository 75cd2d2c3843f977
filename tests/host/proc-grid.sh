#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-grid.sh - every way to make a child, wherever the pages are, whoever writes and
# ends first (proc_grid.c): every byte is right in every cell, with both pagers.
#
# paging
# time: 240
set -uo pipefail

build=${QUIRE_BUILD:-${QUIRE_ROOT:-$PWD}/build}
failed=0

check() { # MAX PAGER HALF
	local start=$SECONDS
	if timeout 100 "$build/quire" run --max "$1" --pager "$2" --swap-dir "$PWD" -- \
		"$build/tests/host_proc_grid" "$3"; then
		echo "ok - $2 $3 ($((SECONDS - start)) s)"
	else
		echo "not ok - $2 $3: status $?"
		failed=1
	fi
}

for pager in uffd_move uffd_copy; do
	check 256M $pager states
	check 9M $pager flight # less than its pages
done
exit $failed
