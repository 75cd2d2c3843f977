#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-signal.sh [MODE...] - signals of an unmodified program whose memory is out
# (proc_signal.c): as it is, then under quire run with each pager.  Pages really went
# out and came back.
#
# paging
# time: 200
set -uo pipefail

build=${QUIRE_BUILD:-${QUIRE_ROOT:-$PWD}/build}
program=$build/tests/host_proc_signal
[ $# -gt 0 ] || set -- cold storm calls jump barrier busfile overflow cancel stopped
failed=0

verdict() { # TEXT STATUS
	if [ "$2" -eq 0 ]; then
		echo "ok - $1"
	else
		echo "not ok - $1: status $2"
		failed=1
	fi
}

# Faults of the run that brought something back; a program that hangs may have its
# signals blocked.
faults() {
	grep -o '"hard":[0-9]*' stats | head -n 1 | cut -d: -f2
}

for mode; do
	timeout -k 1 30 "$program" "$mode" >/dev/null
	verdict "$mode, as it is" $?
	for pager in uffd_move uffd_copy; do
		rm -f stats
		timeout -k 1 30 "$build/quire" run --max 12M --pager $pager --swap-dir "$PWD" \
			--stats=json --stats-file stats -- "$program" --quire "$mode" &&
			[ "$(faults)" -gt 1000 ]
		verdict "$mode, $pager: $(faults) faults" $?
	done
done
exit $failed
