# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# redis-server: its own allocator API, background threads, and BGSAVE's fork,
# whose child writes the snapshot while the parent changes what it holds.
. "$(dirname "$0")/lib.sh"
need redis-server python3

count=$(by_size 50000 240000)

# server PLAIN|LIMITED WHAT [ARG]...: a server with redis.py at work on it.
server() {
	local how=$1 what=$2 dir=$work/$1.dir rc=0 client
	shift 2

	mkdir -p "$dir"
	python3 "$QUIRE_ROOT/tests/programs/redis.py" "$dir/socket" "$count" "$what" \
		>"$work/$how.$what" 2>&1 &
	client=$!
	# no TCP; everything else as it comes, save points included
	"$how" redis-server --port 0 --unixsocket "$dir/socket" --dir "$dir" \
		--dbfilename dump.rdb "$@" >"$work/$how.log" 2>&1 || rc=$?
	wait $client || fail "$how $what: $(tail -n 3 "$work/$how.$what"); $(tail -n 3 "$work/$how.log")"
	[ $rc = 0 ] || fail "$how: exit status $rc: $(tail -n 5 "$work/$how.log")"
}

server plain session
grep -q '^bgsave: ok' "$work/plain.session" || fail "as it is: no snapshot"
if [ "$MEASURE" = 1 ]; then
	measured
	exit 0
fi
quarter
server limited session
cmp "$work/plain.session" "$work/limited.session" || fail "the sessions differ"
check_limited

# the snapshot that the limited server's child wrote, loaded without quire
cp "$work/limited.dir/snapshot.rdb" "$work/plain.dir/dump.rdb"
server plain snapshot --save ''
grep -q '^snapshot: ' "$work/plain.snapshot" || fail "snapshot: $(cat "$work/plain.snapshot")"
