#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# bad-input.sh - every wrong input of the command: exit status, one line on
# stderr of the form "quire: cause: hint", nothing on stdout.
#
# time: 120
set -uo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)

quire=$build/quire
nr=0
failed=0

fail() {
	echo "not ok $nr - $*"
	failed=1
}

# expect STATUS REGEX [ARGUMENT...]: what `quire ARGUMENT...` must do.
expect() {
	local status=$1 regex=$2 got
	shift 2
	nr=$((nr + 1))
	"$quire" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	got=$?
	if [ $got -ne "$status" ]; then
		fail "quire $* exits with $got, not $status: $(cat "$tmp/err")"
	elif [ -s "$tmp/out" ]; then
		fail "quire $* writes to stdout: $(head -1 "$tmp/out")"
	elif [ "$(wc -l <"$tmp/err")" -ne 1 ]; then
		fail "quire $* writes $(wc -l <"$tmp/err") lines: $(cat "$tmp/err")"
	elif ! grep -Eq -e "$regex" "$tmp/err"; then
		fail "quire $* says \"$(cat "$tmp/err")\", not \"$regex\""
	elif ! grep -Eq '^quire: .+: .+' "$tmp/err"; then
		fail "quire $* gives no hint: $(cat "$tmp/err")"
	else
		echo "ok $nr - quire $*"
	fi
}

run() {
	local status=$1 regex=$2
	shift 2
	expect "$status" "$regex" run "$@"
}

# ---- the command ------------------------------------------------------------
expect 2 'no command "frobnicate"' frobnicate
expect 2 'unknown option --frob' doctor --frob
expect 2 'takes no "x"' doctor x
expect 2 'needs an argument' doctor --swap-dir

# ---- options ------------------------------------------------------------------
run 125 'no program'
run 125 'no program' --max 64M
run 125 'no program' --max 64M --
run 125 'unknown option --frob' --frob -- true
run 125 'unknown option -x' -x true
run 125 'unknown option --ma' --ma 64M true
run 125 '--max needs an argument' --max
run 125 '-m needs an argument' -m
run 125 '--allow-unmanaged takes no argument' --allow-unmanaged=yes true
run 125 'no such choice' --malloc=tcmalloc true
run 125 'no such choice' --mmap=maybe true
run 125 'no such form' --stats=xml true
run 125 'cannot write' --stats-file /no/such/dir/report true
run 125 'no pager' --pager magic true

# ---- sizes ----------------------------------------------------------------------
for size in '' ' ' 64MB 1.5G 10X 0x100 -1 64M64 64Mi 1e9 '64 M' 99999999999999999999 8E 101% 5%% %; do
	run 125 'memory.max: "' --max="$size" true
done
run 125 '1000' --max 64MB true
run 125 'whole number' --max 1.5G true
run 125 'too large' --max 99999999999T true
run 125 'more than there is' --max 200% true
for option in high low min swap-max zswap-max memory; do
	run 125 'is not a size' --$option lots true
done

# ---- limits that make no sense -----------------------------------------------------
run 125 'less than a program needs' --max 0 true
run 125 'less than a program needs' --max 4096 true
run 125 'less than a program needs' --max 1023K true
run 125 'less than a program needs' --max 0% true
run 125 'less than a program needs' --high 64K true
run 125 'memory.min .* more than memory.max' --max 64M --min 65M true
run 125 'memory.low .* more than memory.max' --max 64M --low 1G true
run 125 'memory.high .* more than memory.max' --max 64M --high 65M true
run 125 'memory.min .* more than memory.high' --high 64M --min 65M true
run 125 'memory.low .* more than memory.max' --max 64M --low max true

# ---- settings ---------------------------------------------------------------------
run 125 'not a setting' -p memory.max true
run 125 'not a setting' -p =1 true
run 125 'no value' -p memory.max= true
run 125 'no such file' -p memory.frob=1 true
run 125 'cannot be written' -p memory.current=1 true
run 125 'no such file' -p CPUQuota=20% true
run 125 'is not a size' -p MemoryMax=lots true
for file in memory.oom.group memory.zswap.writeback; do
	run 125 "$file: \"2\" is neither on nor off" -p $file=2 true
	run 125 "$file: \"yes\" is neither on nor off" -p $file=yes true
done
run 125 'cgroup.max.depth: "deep" is not a number' -p cgroup.max.depth=deep true
run 125 'cgroup.max.descendants: "-1" is not a number' -p cgroup.max.descendants=-1 true
for file in memory.reclaim memory.peak memory.swap.peak memory.pressure cgroup.procs \
	cgroup.type cgroup.threads cgroup.subtree_control; do
	run 125 "$file: is no setting to start with" -p $file=1 true
done
run 125 'is not a path' --group 'a b' true
run 125 'is not a path' --group ../x true
run 125 'is not a path' --group "$(printf 'x%.0s' {1..64})" true
run 125 'is deeper than 15' --group "$(printf 'a/%.0s' {1..16})" true
run 125 'is longer than 200' --group "$(printf 'abcdefghijklmnopqrstuvwxyz/%.0s' {1..8})" true
run 125 'is not a name' --tree a/b true
run 125 'is not a name' --tree .hidden true
run 125 'is not a name' --tree '' true
XDG_RUNTIME_DIR=/proc run 125 'cannot create /proc/quire: .*: ' --tree a true
XDG_RUNTIME_DIR=/dev/null run 125 'cannot create /dev/null/quire: .*: ' --tree a true
mkdir -p "$tmp/runtime/quire/dir"
chmod 700 "$tmp/runtime/quire"
XDG_RUNTIME_DIR=$tmp/runtime run 125 'cannot open the tree .*: .*: ' --tree dir true
chmod 777 "$tmp/runtime/quire"
XDG_RUNTIME_DIR=$tmp/runtime run 125 'may be written by others: chmod 700' --tree a true

# ---- removing -----------------------------------------------------------------------
expect 2 'no tree was named' rm
expect 2 'no tree was named' rm /run
expect 2 'unknown option --force' rm --force
expect 2 'unknown option -f' rm -f
expect 2 '--tree needs an argument' rm --tree
expect 2 '--recursive takes no argument' rm --recursive=yes
expect 125 'is not a name' rm --tree a/b
expect 125 'is not a name' rm --tree ''
chmod 700 "$tmp/runtime/quire"
export XDG_RUNTIME_DIR=$tmp/runtime
expect 125 'there is no tree .*/none: ' rm --tree none
expect 125 'cannot open the tree .*/dir' rm --tree dir
printf 'no tree' >"$tmp/runtime/quire/text"
expect 125 'text: .* not a tree of groups .*: if no program uses it' rm --tree text
[ -s "$tmp/runtime/quire/text" ] || fail 'a file that is no tree was removed'
: >"$tmp/runtime/quire/empty"
expect 1 'has no groups' rm --tree empty /run
if "$quire" run --max 64M --tree there --group a/b true; then
	expect 1 'the root group cannot be removed' rm --tree there -r /
	expect 1 'the root group cannot be removed' rm --tree there ''
	expect 1 'there is no group /none in the tree there' rm --tree there none
	expect 1 'there is no group /a/.. in' rm --tree there -r a/..
	expect 1 'there is no group /xxxxx' rm --tree there "$(printf 'x%.0s' {1..2000})"
	expect 1 '/a has 1 group below it: .* or all with -r' rm --tree there a
fi
unset XDG_RUNTIME_DIR

# ---- the program --------------------------------------------------------------------
run 127 'not found' --max 64M quire-no-such-program
run 127 'no such program' --max 64M /no/such/program
run 127 'empty' --max 64M ''
run 126 'directory' --max 64M /
run 126 'ermission denied' --max 64M /etc/passwd
printf '#!/no/such/interpreter\n' >"$tmp/script"
chmod +x "$tmp/script"
run 127 'interpreter' --max 64M "$tmp/script"
printf 'int main(void){return 0;}' >"$tmp/static.c"
if cc -static -o "$tmp/static" "$tmp/static.c" 2>/dev/null; then
	run 125 'statically linked' --max 64M "$tmp/static"
	printf '#!%s\n' "$tmp/static" >"$tmp/of-static"
	chmod +x "$tmp/of-static"
	run 125 'statically linked' --max 64M "$tmp/of-static"
fi

# ---- quire itself, not where it was installed ---------------------------------------
mkdir "$tmp/alone" "$tmp/with a space"
cp "$quire" "$tmp/alone"
cp "$quire" "$build/libquire-preload.so" "$tmp/with a space"
quire=$tmp/with\ a\ space/quire run 125 'path with a space or a colon: install' --max 64M true
if ! "$tmp/alone/quire" run --max 64M true 2>/dev/null; then # not installed here
	quire=$tmp/alone/quire run 125 'nor installed: install quire again' --max 64M true
fi

# ---- a limit that the program cannot live with -------------------------------------------
run 137 'out of memory in group .* killed: .*: raise --max' --max 2M --swap-max 0 \
	"$build/tests/fail_store_full" 16

# ---- the swap directory -----------------------------------------------------------------
run 125 'does not exist' --max 64M --swap-dir /no/such/dir true
run 125 'not a directory' --max 64M --swap-dir /etc/passwd true
run 125 'is empty' --max 64M --swap-dir '' true
long=$tmp/$(printf 'd%.0s' {1..240})
mkdir "$long"
run 125 'is longer than 247' --max 64M --swap-dir "$long" true
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ]; then
	run 125 'tmpfs' --max 64M --swap-dir /dev/shm true
	QUIRE_SWAP_DIR=/dev/shm run 125 'tmpfs' --max 64M true
fi
QUIRE_SWAP_DIR=/no/such/dir run 125 'does not exist' --max 64M true
XDG_CACHE_HOME=/dev/null run 125 'not a directory|does not exist' --max 64M true

# Where it does not matter it is not looked at.
nr=$((nr + 1))
if "$quire" run --max 64M --swap-max 0 --swap-dir /no/such/dir true 2>"$tmp/err"; then
	echo "ok $nr - no swap, no swap directory"
else
	fail "no swap, but: $(cat "$tmp/err")"
fi

# ---- an ordinary user, where this is root ---------------------------------------------
as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}
if [ "$(id -u)" = 0 ] && as_nobody test -x "$quire" 2>/dev/null; then
	nr=$((nr + 1))
	mkdir "$tmp/private"
	chmod 700 "$tmp/private"
	if as_nobody test -w /dev/userfaultfd ||
		[ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" = 1 ]; then
		want='not writable|does not exist'
	else
		want='userfaultfd is not permitted: run as root `'
	fi
	as_nobody "$quire" run --max 64M --swap-dir "$tmp/private" true 2>"$tmp/err"
	got=$?
	if [ $got -eq 125 ] && grep -Eq "$want" "$tmp/err" && [ "$(wc -l <"$tmp/err")" -eq 1 ]; then
		echo "ok $nr - as an ordinary user: $(cat "$tmp/err")"
	else
		fail "as an ordinary user: status $got: $(cat "$tmp/err")"
	fi
	if cp /bin/true "$tmp/setuid" && chmod 4755 "$tmp/setuid" && chmod 755 "$tmp"; then
		nr=$((nr + 1))
		as_nobody "$quire" run --max 64M "$tmp/setuid" 2>"$tmp/err"
		got=$?
		if [ $got -eq 125 ] && grep -q 'setuid' "$tmp/err"; then
			echo "ok $nr - a setuid program is refused"
		elif [ $got -eq 127 ]; then
			echo "ok $nr - skipped: $tmp cannot be searched"
		else
			fail "a setuid program: status $got: $(cat "$tmp/err")"
		fi
	fi
fi

# ---- help ---------------------------------------------------------------------------------
for args in --help 'run --help' 'rm --help' 'doctor --help' --version; do
	nr=$((nr + 1))
	# shellcheck disable=SC2086 # words, on purpose
	if "$quire" $args >"$tmp/out" 2>"$tmp/err" && [ -s "$tmp/out" ] && [ ! -s "$tmp/err" ]; then
		echo "ok $nr - quire $args"
	else
		fail "quire $args: $(cat "$tmp/err")"
	fi
done

echo "1..$nr"
exit $failed
