#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-tree.sh - a process and its children in the long run, under quire run: nested
# forks, swap file space that both hold, N forks without growth (FORKS, 1000), signals
# during forks, and children made past fork() (proc_tree.c).
#
# paging
# time: 240
set -uo pipefail

build=${QUIRE_BUILD:-${QUIRE_ROOT:-$PWD}/build}
export XDG_RUNTIME_DIR=$PWD
failed=0

check() { # PAGER MODE...
	local start=$SECONDS status=0
	timeout 200 "$build/quire" run --max 64M --pager "$1" --tree proc-tree --swap-dir "$PWD" -- \
		"$build/tests/host_proc_tree" "${@:2}" || status=$?
	"$build/quire" rm --tree proc-tree || status=1
	if [ $status -eq 0 ]; then
		echo "ok - $1 $2 ($((SECONDS - start)) s)"
	else
		echo "not ok - $1 $2: status $status"
		failed=1
	fi
}

for pager in uffd_move uffd_copy; do
	check $pager raw
	check $pager nested 5
	check $pager segments 6
	check $pager signals 60
done
check uffd_move many "${FORKS:-1000}" "$PWD/quire/proc-tree"
exit $failed
