#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run-process.sh - `quire run` as a process: exit status, arguments, descriptors,
# environment, signals and job control, in place and with --stats.
#
# time: 120
# shellcheck disable=SC2016,SC2317 # the programs' own variables
set -uo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)

quire=$build/quire
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

is() { # TEXT GOT WANTED
	[ "$2" = "$3" ] || echo "got \"$2\", wanted \"$3\""
	[ "$2" = "$3" ]
	verdict "$1" $?
}

in_place() {
	"$quire" run --max 512M "$@"
}

waiting() {
	"$quire" run --max 512M --stats-file "$tmp/report" -- "$@"
}

for how in in_place waiting; do
	$how true
	is "$how: status 0" $? 0
	$how sh -c 'exit 42'
	is "$how: status 42" $? 42
	$how sh -c 'kill -TERM $$' 2>/dev/null
	is "$how: killed by SIGTERM" $? 143
	$how sh -c 'kill -KILL $$' 2>/dev/null
	is "$how: killed by SIGKILL" $? 137
	is "$how: arguments" "$($how printf '%s|' a 'b c' '' --max -x)" 'a|b c||--max|-x|'
	is "$how: standard input" "$(echo hello | $how cat)" hello
	is "$how: environment of the caller" "$(X='a;b%c=d' $how sh -c 'echo "$X"')" 'a;b%c=d'
	is "$how: working directory" "$(cd / && $how pwd)" /
	# shellcheck disable=SC2012 # numbers only
	is "$how: descriptors" "$($how ls /proc/self/fd | tr '\n' ' ')" \
		"$(ls /proc/self/fd | tr '\n' ' ')"
	is "$how: signal mask and dispositions" \
		"$($how grep -E '^(SigBlk|SigIgn)' /proc/self/status)" \
		"$(grep -E '^(SigBlk|SigIgn)' /proc/self/status)"
	is "$how: ignored SIGHUP stays ignored" \
		"$(trap '' HUP && $how sh -c 'kill -HUP $$; echo alive')" alive
	printf 'echo formless "$@"\n' >"$tmp/formless"
	chmod +x "$tmp/formless"
	is "$how: a file without a format" "$($how "$tmp/formless" x y)" 'formless x y'
	is "$how: LD_PRELOAD is kept" \
		"$(LD_PRELOAD=libdl.so.2 $how sh -c 'echo "$LD_PRELOAD"' | sed 's/.*://')" libdl.so.2
done

# ---- in place: the same process -------------------------------------------------
"$quire" run --max 512M sh -c 'echo $$' >"$tmp/pid" &
child=$!
wait $child
is 'in place: same process id' "$(cat "$tmp/pid")" $child

# ---- waiting: the report is there however it ends ----------------------------------
for end in true 'kill -KILL $$' 'exit 3'; do
	rm -f "$tmp/report"
	"$quire" run --max 512M --stats=json --stats-file "$tmp/report" sh -c "$end" 2>/dev/null
	python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); assert r["version"] == 1' \
		"$tmp/report"
	verdict "a JSON report after: $end" $?
done
"$quire" run --max 512M --stats true 2>"$tmp/err" >"$tmp/out"
[ ! -s "$tmp/out" ] && grep -q '^quire: true exited with status 0' "$tmp/err"
verdict 'the report is on stderr only' $?

# ---- waiting: signals ----------------------------------------------------------------
cat >"$tmp/counts" <<'SCRIPT'
#!/bin/bash
# Count what arrives; end on SIGUSR2.
n=0
trap 'n=$((n + 1))' USR1
trap 'echo $n >"$1.count"; exit 7' USR2
trap 'echo term >"$1.count"; exit 8' TERM
echo $$ >"$1.ready"
while :; do sleep 0.02; done
SCRIPT
chmod +x "$tmp/counts"

wait_for() { # FILE
	for _ in $(seq 500); do
		[ -s "$1" ] && return 0
		sleep 0.02
	done
	return 1
}

rm -f "$tmp"/s.*
"$quire" run --max 512M --stats-file "$tmp/report" "$tmp/counts" "$tmp/s" &
parent=$!
wait_for "$tmp/s.ready"
for _ in 1 2 3; do
	kill -USR1 $parent
	sleep 0.2
done
kill -USR2 $parent
wait $parent
is 'waiting: status after a forwarded signal' $? 7
is 'waiting: each signal is passed on once' "$(cat "$tmp/s.count")" 3

# Terminal signals reach the program by itself and end quire with it.
cat >"$tmp/jobs.py" <<'PYTHON'
import os, pty, select, sys, time

quire, tmp = sys.argv[1:3]

def read_until(fd, text, seconds=10):
    data = b""
    end = time.time() + seconds
    while text not in data and time.time() < end:
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            data += os.read(fd, 1000)
        except OSError:
            break
    return data

def spawn(*argv):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(quire, ["quire", "run", "--max", "512M", "--stats-file", tmp + "/report", "--", *argv])
    return pid, fd

# Ctrl-C: once to the program.
pid, fd = spawn("bash", "-c", "n=0; trap 'n=$((n+1))' INT; echo ready; "
                "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; echo n=$n; exit 5")
assert b"ready" in read_until(fd, b"ready")
time.sleep(0.1)
os.write(fd, b"\x03")
out = read_until(fd, b"n=")
out += read_until(fd, b"\n")
assert b"n=1" in out, out
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5

# Ctrl-Z: both stop, and SIGCONT to the group continues both.  The session's
# leader cannot be stopped by the terminal's job control in an orphaned group,
# so the job runs below a shell that has job control.
pid, fd = pty.fork()
if pid == 0:
    os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
os.write(fd, b"PS1=; stty -echo; echo u''p\n")
assert b"up" in read_until(fd, b"up\r\n")
job = "%s run --max 512M --stats-file %s/report -- sh -c 'echo started; sleep 1; echo done; exit 6'\n"
os.write(fd, (job % (quire, tmp)).encode())
assert b"started" in read_until(fd, b"started")
# Not while the shell waits in vfork(2): a child that is stopped before its exec
# leaves a parent that cannot stop, also without quire.
time.sleep(0.3)
os.write(fd, b"\x1a")
out = read_until(fd, b"Stopped")
assert b"Stopped" in out, out
os.write(fd, b"fg; echo status=$?\n")
out = read_until(fd, b"status=6")
assert b"done" in out and b"status=6" in out, out
os.write(fd, b"exit\n")
os.close(fd)
os.waitpid(pid, 0)
print("ok")
PYTHON
is 'waiting: terminal signals and job control' "$(timeout 60 python3 "$tmp/jobs.py" "$quire" "$tmp" 2>&1)" ok

# ---- many processes, one group ------------------------------------------------------
# Together they have about 75 MiB of their own.
many() { # REPORT OPTION
	timeout 100 "$quire" run --max 512M "$2" --stats-file "$1" -- bash -c '
		for i in $(seq 80); do sleep 20 & done
		sleep 4; kill $(jobs -p); wait; echo done' 2>"$tmp/err"
}
is 'eighty processes at a time: all run' "$(many "$tmp/many.json" --stats=json)" done
is 'and say nothing' "$(cat "$tmp/err")" ''
python3 - "$tmp/many.json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
shown, others = len(report["processes"]), report["processes_not_counted"]
# bash, its 80 forks, which go on as sleep, seq, sleep
assert 83 <= shown <= 90 and others == 0, (shown, others)
PYTHON
verdict 'the report has all of them' $?

echo "1..$nr"
exit $failed
