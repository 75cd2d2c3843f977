#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/host/proc-uid.sh - programs of a run that another user runs.
#
# As root: what root's run starts as nobody is in its group, under its limit, where
# nobody may use userfaultfd; else it ends with a message before it has begun, or with
# --allow-unmanaged runs without a limit.  A process that becomes nobody without exec
# pages on.  The mode of /dev/userfaultfd is set for the test, and put back.
# paging
set -uo pipefail
export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
quire=${QUIRE_BUILD:-$root/build}/quire
[ "$(id -u)" = 0 ] || { echo "needs root to become another user"; exit 77; }
[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] ||
	{ echo "vm.unprivileged_userfaultfd lets every user page"; exit 77; }
unset XDG_RUNTIME_DIR
# The library and what is written must be readable for nobody.
work=$(mktemp -d /tmp/quire-uid.XXXXXX) || exit 1
mode=$(stat -c %a /dev/userfaultfd) || exit 1
trap 'chmod "$mode" /dev/userfaultfd; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP
chmod 755 "$work"
nr=0 failed=0

verdict() {
	nr=$((nr + 1))
	if [ "$2" = 0 ]; then
		echo "ok $nr - $1"
	else
		echo "not ok $nr - $1"
		failed=1
		head -c 600 "$work/err"
	fi
}

mkdir "$work/build"
cp "$quire" "$(dirname "$quire")/libquire-preload.so" "$work/build/"
quire=$work/build/quire
cc -O2 -o "$work/tree" "$root/tests/limit/tree.c" || exit 1
as_nobody='setpriv --reuid=65534 --regid=65534 --clear-groups --'

chmod 600 /dev/userfaultfd
"$quire" run --max 64M -- $as_nobody "$work/tree" 100 0 1 2>"$work/err"
[ $? = 125 ] && grep -q "^quire: $work/tree: user 65534 may not use userfaultfd: chmod a+rw" "$work/err"
verdict 'a user who may not page: the program is refused' $?
"$quire" run --max 64M --allow-unmanaged -- $as_nobody "$work/tree" 100 0 1 2>"$work/err" && [ ! -s "$work/err" ]
verdict 'or runs without a limit when asked to' $?

chmod 666 /dev/userfaultfd
"$quire" run --max 64M --swap-dir /tmp --stats=json --stats-file "$work/report" -- \
	sh -c "$as_nobody $work/tree 60 0 3 & $work/tree 60 0 3; wait \$!" 2>"$work/err"
verdict 'root and nobody: all words are right' $?
python3 - "$work/report" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
assert len(report["processes"]) == 3, report["processes"]
assert report["peak"] < 80 << 20, report["peak"]
assert report["stat"]["zswpout"] + report["stat"]["pswpout"] > 10000, report["stat"]
PYTHON
verdict 'they share one limit' $?
[ ! -s "$work/err" ]
verdict 'and say nothing' $?

cat >"$work/drop.py" <<'PYTHON'
import os
mem = bytearray(os.urandom(1 << 20)) * 60
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
more = bytearray(mem)
assert more == mem
child = os.fork()
if child == 0:
    mem[::4096] = bytes(len(mem) // 4096)
    os._exit(mem[1:4096] != more[1:4096])
assert os.waitpid(child, 0)[1] == 0
assert more == mem
print(os.getuid(), len(mem) + len(more))
PYTHON
[ "$("$quire" run --max 64M --swap-dir /tmp -- python3 "$work/drop.py" 2>"$work/err")" = '65534 125829120' ]
verdict 'one that becomes nobody pages on, and forks' $?

# Nobody else can find a tree that nobody may join.
[ "$(stat -c '%a %u' "/dev/shm/quire-0")" = '711 0' ]
verdict 'the directory cannot be listed by others' $?

echo "1..$nr"
exit $failed
