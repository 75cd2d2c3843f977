#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-debug.sh - what looks at a paged program from outside sees its bytes, or is told
# that it cannot, as quire(7) says; and the program goes on, every byte as it was.
# A core file has zeros where pages were out and is no larger than the program.
#
# paging
# time: 120
set -uo pipefail

build=${QUIRE_BUILD:-${QUIRE_ROOT:-$PWD}/build}
program=$build/tests/host_proc_debug
failed=0

is() { # TEXT GOT WANTED
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		echo "not ok - $1: $2, wanted $3"
		failed=1
	fi
}

peek() { # HOW ADDRESS [SECONDS]
	timeout -k 1 "${3:-10}" "$program" peek "$1" "$pid" "$2" || echo "status $?"
}

# Words as gdb prints them, in their order.
gdb_words() { # gdb's arguments
	timeout -k 1 30 gdb -nx -batch "$@" 2>&1 |
		grep -oE 'Cannot access memory|0x[0-9a-f]{16}$' | sed 's/0x0*/0x/' | tr '\n' ' '
}

begin() { # PAGER
	rm -f info pipe core*
	mkfifo pipe
	"$build/quire" run --max 12M --pager "$1" --swap-dir "$PWD" -- "$program" show info <pipe &
	run=$!
	exec 5>pipe
	for _ in $(seq 200); do
		[ -s info ] && break
		sleep 0.05
	done
	read -r pid out word in in_word <info
}

# Before anybody has looked, so that it is out; the last look brings it back.
for pager in uffd_move uffd_copy; do
	begin $pager
	is "$pager: gdb reads what is there, and says so of what is out" \
		"$(gdb_words -p "$pid" -ex "x/gx $in" -ex "x/gx $out")" "$in_word Cannot access memory "
	is "$pager: /proc/PID/mem, there" "$(peek mem "$in")" "$in_word"
	is "$pager: /proc/PID/mem, out" "$(peek mem "$out")" EIO
	is "$pager: ptrace, there" "$(peek ptrace "$in")" "$in_word"
	is "$pager: ptrace, out" "$(peek ptrace "$out")" EIO
	kill -STOP "$pid"
	is "$pager: process_vm_readv of a stopped process, there" "$(peek readv "$in")" "$in_word"
	is "$pager: process_vm_readv of a stopped process, out: it waits" "$(peek readv "$out" 0.3)" "status 124"
	kill -CONT "$pid"
	is "$pager: process_vm_readv of a running process, out" "$(peek readv "$out")" "$word"
	is "$pager: which brought it back for gdb" "$(gdb_words -p "$pid" -ex "x/gx $out")" "$word "
	exec 5>&-
	wait $run
	is "$pager: the program goes on" $? 0
done

if [ "$(cat /proc/sys/kernel/core_pattern)" != core ]; then
	echo "not run: core files go to $(cat /proc/sys/kernel/core_pattern)"
	exit $failed
fi
ulimit -c unlimited 2>/dev/null
begin uffd_move
timeout -k 1 30 gdb -nx -batch -p "$pid" -ex 'generate-core-file made' >/dev/null 2>&1
is 'gcore writes no reservation of ours' $(($(stat -c %s made) < 200000000)) 1
rm -f made
kill -ABRT "$pid"
wait $run 2>/dev/null
exec 5>&-
is 'a core file of the kernel: what was there, and zeros' \
	"$(gdb_words -core core* -ex "x/gx $in" -ex "x/gx $out" "$program")" "$in_word 0x "
is 'and nothing of ours that is large' $(($(stat -c %s core*) < 150000000)) 1
exit $failed
