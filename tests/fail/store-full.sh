#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# store-full.sh - a swap directory without room: refused at the start; and one that
# gets full while the program runs: what is in memory stays there, the out-of-memory
# policy decides, and no byte is wrong.  In a mount namespace of its own, on a small
# file system in a file.
# time: 200
# paging
set -uo pipefail

build=${QUIRE_BUILD:-$PWD/build}
program=$build/tests/fail_store_full
nr=0
failed=0

skip() {
	echo "$1"
	exit 77
}

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1"
		sed 's/^/# /' err
		failed=1
	fi
}

if [ "${1-}" != inside ]; then
	[ "$(id -u)" = 0 ] || skip 'only root can mount a file system'
	command -v mkfs.ext4 >/dev/null || skip 'no mkfs.ext4'
	exec unshare -m --propagation private -- "$0" inside
fi

mkdir -p disk
truncate -s 96M image
mkfs.ext4 -q -m 0 image && mount -o loop image disk || skip 'no file system can be mounted'
trap 'umount -l disk; rm -rf disk image' EXIT
trap '' PIPE

use_up() { # leaves $1 MiB
	rm -f disk/filler
	dd if=/dev/zero of=disk/filler bs=64K 2>/dev/null
	truncate -s "-${1}M" disk/filler
}

# ---- at the start -----------------------------------------------------------------
refused() { # TEXT REGEX
	"$build/quire" run --max 64M --swap-dir "$PWD/disk" true >out 2>err
	[ $? -eq 125 ] && [ ! -s out ] && [ "$(wc -l <err)" -eq 1 ] && grep -Eq "$2" err
	verdict "$1" $?
}

use_up 4
refused 'full: refused, with what is free' 'disk is full \([1-9].* free\): make room'
rm disk/filler
mount -o remount,ro disk
refused 'read-only: refused' 'disk is not writable: choose another one'
mount -o remount,rw disk

# ---- in the middle -------------------------------------------------------------------
# Answers the program, which stops where store_full.c says.
answer() {
	echo >&8
	read -r line <&9
}

run() { # PROGRAM'S ARGUMENTS...; status of the program
	local pid
	rm -f in out disk/filler
	mkfifo in out
	timeout 100 "$build/quire" run --max 16M --swap-max 200M --swap-dir "$PWD/disk" -- \
		"$program" "$@" <in >out 2>err &
	pid=$!
	exec 8>in 9<out
	read -r line <&9
	use_up "$leave"
	answer 2>/dev/null
	answer 2>/dev/null
	echo 2>/dev/null >&8
	exec 8>&- 9<&-
	wait $pid
}

killed_with_a_reason() {
	[ "$1" -eq 137 ] && grep -q 'out of memory in group .*free space' err
}

leave=0
run 24 compressible
verdict 'full in the middle, what is out is in memory: goes on' $?

run 48
status=$?
[ $status -eq 0 ] || killed_with_a_reason $status
verdict "full in the middle: no wrong byte, killed with a reason (status $status)" $?

leave=30
run 40
verdict 'nearly full in the middle: goes on' $?
echo "1..$nr"
exit $failed
