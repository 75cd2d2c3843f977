#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# rm.sh - `quire rm`: groups and trees are refused while a process lives in them,
# and go when it has ended, also by SIGKILL; nothing stays charged.
#
# time: 60
set -uo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)

quire=$build/quire
export XDG_RUNTIME_DIR=$tmp
tree=$tmp/quire/t
nr=0
failed=0

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1"
		failed=1
	fi
}

rm_() { # [ARGUMENT...]
	"$quire" rm --tree t "$@" 2>"$tmp/err"
}

removed() { # [ARGUMENT...]
	rm_ "$@" && [ ! -s "$tmp/err" ]
	verdict "removed: $*" $?
	sed 's/^/# /' "$tmp/err"
}

refused() { # REGEX [ARGUMENT...]
	local regex=$1
	shift
	rm_ "$@"
	[ $? -eq 1 ] && [ "$(wc -l <"$tmp/err")" -eq 1 ] && grep -Eq "$regex" "$tmp/err"
	verdict "refused: $*" $?
	sed 's/^/# /' "$tmp/err"
}

# One that waits, with more memory than its limit: pages are out, and charged.
start() { # GROUP READY
	"$quire" run --tree t --group "$1" --max 64M -- python3 -c '
import signal, sys
data = [b"%d" % n * 1000 for n in range(40000)]
open(sys.argv[1], "w").write("x")
signal.pause()' "$tmp/$2" &
	pid=$!
	for _ in $(seq 500); do
		[ -s "$tmp/$2" ] && return 0
		sleep 0.02
	done
	return 1
}

# What is charged to /all, in bytes.  Read as `quire run --stats` reads it.
charged() {
	python3 - "$build/libquire.so.0" "$tree" <<'PYTHON'
import ctypes, os, sys
lib = ctypes.CDLL(sys.argv[1])
view, text = ctypes.c_void_p(), ctypes.create_string_buffer(100)
assert lib.quire_view_open(os.open(sys.argv[2], os.O_RDONLY), ctypes.byref(view)) == 0
total = 0
for name in (b"memory.current", b"memory.swap.current", b"memory.zswap.current"):
    assert lib.quire_view_read(view, b"/all", name, text, ctypes.c_size_t(100), None) == 0
    total += int(text.value)
print(total)
PYTHON
}

# ---- two programs in one tree -------------------------------------------------------
start all/web one
verdict 'a first program runs' $?
one=$pid
start all/batch/night two
verdict 'a second program runs' $?
two=$pid
[ "$(charged)" -gt $((64 << 20)) ]
verdict 'both have memory' $?
refused "/all/web is in use by process $one: end it first" all/web
refused "/all/web is in use by process $one: " -r all/web
refused "/all/batch is in use by process $two: " all/batch
refused "/all/batch is in use by process $two: " -r all/batch
refused "/all is in use by processes ($one, $two|$two, $one): " -r all
"$quire" run --tree t --group all/web/below --max 64M true
refused "/all/web/below is in use by process $one: " all/web/below
refused "quire/t is in use by processes ($one, $two|$two, $one): end them"
[ -e "$tree" ]
verdict 'the tree is there' $?

# ---- one is killed --------------------------------------------------------------------
before=$(charged)
kill -KILL "$two"
wait "$two" 2>/dev/null
refused '/all/batch has 1 group below it: .* with -r' all/batch
[ "$(charged)" -lt $((before * 3 / 4)) ]
verdict 'what it had charged is given back' $?
refused "/all/web is in use by process $one: " all/web
"$quire" run --tree t --group all/batch/day --max 64M true
refused '/all/batch has 2 groups below it: .* with -r' all/batch
removed all/batch/night
removed -r all/batch
refused 'there is no group /all/batch in' all/batch
refused 'there is no group /all/batch/day in' all/batch/day
refused "quire/t is in use by process $one: end it"

# Several at once: the others go all the same.
"$quire" run --tree t --group many/a --max 64M true
"$quire" run --tree t --group many/b --max 64M true
refused "/all/web is in use by process $one: " -r many/a all/web many/b
refused 'there is no group /many/b in' many/b
removed /many/

# ---- the other one ends ----------------------------------------------------------------
kill -TERM "$one"
wait "$one" 2>/dev/null
refused '/all/web has 1 group below it: .* with -r' all/web
removed all/web/below
removed all/web
[ "$(charged)" = 0 ]
verdict 'nothing is charged' $?
removed /all
removed
[ ! -e "$tree" ]
verdict 'the file of the tree is gone' $?
rm_
[ $? -eq 125 ] && grep -q 'there is no tree' "$tmp/err"
verdict 'and cannot be removed again' $?
"$quire" run --tree t --max 64M true && [ -e "$tree" ]
verdict 'a tree of that name can be made again' $?
removed

# A run that came to nothing leaves an empty file.
: >"$tree"
removed
[ ! -e "$tree" ]
verdict 'an empty tree goes, too' $?

echo "1..$nr"
exit $failed
