#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# proc-host.sh - processes, descriptors and identities under quire run: programs of
# ours, then real ones, print and end as they do without it.
#
# paging
# time: 300
# shellcheck disable=SC2016 # the programs' own variables
set -uo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}
helper=$build/tests/host_proc_host
failed=0

mkdir swap
chmod 1777 swap # setuid: a child's swap file is the new user's

verdict() { # TEXT STATUS
	if [ "$2" -eq 0 ]; then
		echo "ok - $1"
	else
		echo "not ok - $1: status $2"
		failed=1
	fi
}

paged() { # MAX COMMAND...
	timeout 60 "$build/quire" run --max "$1" --swap-dir "$PWD/swap" -- "${@:2}"
}

# ---- programs of ours -------------------------------------------------------------
for mode in closefrom spawn exec rawfork rawclone _fork setuid-late setuid-early chroot seccomp seccomp-all; do
	rm -rf root
	timeout 60 "$helper" "$mode" 3</dev/null 3<&- && rm -rf root && paged 12M "$helper" "$mode"
	verdict "$mode" $?
done

paged 12M "$helper" daemon "$PWD/daemon.done"
for _ in $(seq 200); do
	[ -e daemon.done ] && break
	sleep 0.05
done
[ -e daemon.done ]
verdict daemon $?

# A number in QUIRE_RUN that is somebody else's file by now is left alone.
echo text >file
got=$(QUIRE_RUN="fd=9;group=run;" LD_PRELOAD="$build/libquire-preload.so" bash -c 'cat <&9' 9<file)
[ "$got" = text ]
verdict 'a descriptor that is no segment' $?

cc -O2 -fPIC -shared -DLIBRARY -I"$root/tests/host" -o libproc.so "$root/tests/host/proc_lib.c" &&
	cc -O2 -I"$root/tests/host" -DPROGRAM -o uses-lib "$root/tests/host/proc_lib.c" -L. -lproc -Wl,-rpath,"$PWD" &&
	./uses-lib && paged 12M ./uses-lib
verdict 'a library with a constructor and fork handlers' $?

# ---- real programs: the same output, under pressure ----------------------------------
# The limit is that of all their processes together.
same() { # MAX COMMAND...
	"${@:2}" >want 2>&1
	local status=$?
	paged "$1" "${@:2}" >got 2>&1
	[ $? -eq $status ] && cmp want got
	verdict "${2##*/} in $1" $?
}

same 32M bash -c 'a=(); for ((i = 0; i < 60000; i++)); do a+=("line $i of the array"); done
	printf "%s\n" "${a[@]}" | (sort | md5sum)
	for i in 1 2 3 4 5 6 7 8; do (echo "${a[$i * 1000]}" | cat); done
	x=$(printf "%s" "${a[@]}" | wc -c); echo "$x"'
same 24M perl -e 'my @a = map { "row $_ " x 20 } 1 .. 100000;
	for my $n (1 .. 4) { my $pid = fork; if (!$pid) { my $s = 0; $s += length for @a; exit($s % 100) }
		waitpid $pid, 0; print $? >> 8, "\n" }
	print `echo back`, scalar(@a), "\n"'

mkdir project
for i in 1 2 3 4 5 6 7 8; do
	echo "int f$i(int x) { return x * $i; }" >project/f$i.c
done
cat >project/Makefile <<'MAKE'
objects = f1.o f2.o f3.o f4.o f5.o f6.o f7.o f8.o
all.a: $(objects)
	@ar rcD $@ $^ && echo done
%.o: %.c
	@$(CC) -O2 -c -o $@ $<
MAKE
same 20M sh -c 'cd project && rm -f *.o *.a && make -j4 && md5sum all.a'

seq 300000 >numbers
same 6M sh -c 'tar cf - numbers --mtime=@0 | md5sum; tar czf a.tgz numbers && tar xzOf a.tgz | md5sum'
if command -v node >/dev/null; then
	same 200M node -e 'const c = require("child_process"), a = [];
		for (let i = 0; i < 300000; i++) a.push({ i, s: "item " + i });
		console.log(c.execSync("echo sync").toString());
		console.log(c.spawnSync("sh", ["-c", "exit 3"]).status);
		c.exec("echo async", (e, out) => console.log(out, a[299999].s))'
fi

# ---- what it costs to begin ------------------------------------------------------------
cost() { # COMMAND...: microseconds each
	local n start=${EPOCHREALTIME/./}
	for ((n = 0; n < 100; n++)); do
		"$@" || exit
	done
	echo $(((${EPOCHREALTIME/./} - start) / 100))
}
cost "$helper" exit >/dev/null # warm
alone=$(cost "$helper" exit)
export LD_PRELOAD=$build/libquire-preload.so QUIRE_RUN='group=run;set=memory.max:64M;'
loaded=$(cost "$helper" exit)
unset LD_PRELOAD QUIRE_RUN
echo "start and end: $alone us alone, $loaded us with the preload"
[ $((loaded - alone)) -lt 20000 ]
verdict 'start-up under 20 ms' $?
exit $failed
