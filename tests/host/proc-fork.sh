#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-fork.sh - fork under quire run: children see every byte of their parent, with
# one thread and with many, whatever the others do; no fork hangs.
#
# paging
# time: 300
set -uo pipefail

build=${QUIRE_BUILD:-${QUIRE_ROOT:-$PWD}/build}
helper=$build/tests/host_proc_fork
failed=0

check() { # LIMIT MODE N
	local start=$SECONDS
	if timeout "$1" "$helper" "$2" 5 && timeout "$1" \
		"$build/quire" run --max 12M --swap-dir "$PWD" -- "$helper" "${@:2}"; then
		echo "ok - ${*:2} ($((SECONDS - start)) s)"
	else
		echo "not ok - ${*:2}: status $?"
		failed=1
	fi
}

check 60 lazy 20
check 60 stack
check 60 nss
check 60 files
check 60 no-files
check 60 nested 10
check 60 clean 10
check 60 busy 10
check 120 threads "${FORKS_THREADS:-300}"
check 120 single "${FORKS:-1000}"
exit $failed
