# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# redis-server: its own allocator API, background threads, and BGSAVE's fork,
# whose child writes the snapshot while the parent changes what it holds.
. "$(dirname "$0")/lib.sh"
need redis-server python3

count=$(by_size 50000 240000)

# server plain[_tree]|limited[_tree] WHAT [ARG]...: a server with redis.py at work on it.
server() {
	local how=$1 what=$2 dir=$work/$1.dir rc=0 client
	shift 2

	mkdir -p "$dir"
	python3 "$QUIRE_ROOT/tests/programs/redis.py" "$dir/socket" "$count" "$what" \
		>"$work/$how.$what" 2>"$work/$how.$what.err" &
	client=$!
	# no TCP; everything else as it comes, save points included
	"$how" redis-server --port 0 --unixsocket "$dir/socket" --dir "$dir" \
		--dbfilename dump.rdb "$@" >"$work/$how.log" 2>&1 || rc=$?
	wait $client || fail "$how $what: $(tail -n 3 "$work/$how.$what.err"); $(tail -n 3 "$work/$how.log")"
	[ $rc = 0 ] || fail "$how: exit status $rc: $(tail -n 5 "$work/$how.log")"
}

# What the server forks to save, all keys being there, and all being changed meanwhile.
saves=(saves --save '' --appendonly yes --auto-aof-rewrite-percentage 0 --enable-debug-command yes)

server plain session
grep -q '^bgsave: ok' "$work/plain.session" || fail "as it is: no snapshot"
if [ "$MEASURE" = 1 ]; then
	measured
	count=$(by_size 16000 240000)
	server plain_tree "${saves[@]}"
	measured
	exit 0
fi
quarter
server limited session
cmp "$work/plain.session" "$work/limited.session" || fail "the sessions differ"
FORKS=1 check_limited

# the snapshot that the limited server's child wrote, loaded without quire
cp "$work/limited.dir/snapshot.rdb" "$work/plain.dir/dump.rdb"
server plain snapshot --save ''
grep -q '^snapshot: ' "$work/plain.snapshot" || fail "snapshot: $(cat "$work/plain.snapshot")"

count=$(by_size 16000 240000)
server plain_tree "${saves[@]}"
[ "$(grep -c '^BG.* ok' "$work/plain_tree.saves")" = 2 ] || fail "as it is: not saved"
server limited_tree "${saves[@]}"
cmp "$work/plain_tree.saves" "$work/limited_tree.saves" || fail "the saves differ"
check_tree
paste -d ' ' "$work/plain_tree.saves.err" "$work/limited_tree.saves.err" |
	awk -v name="$NAME" '{ print name ": fork of " $1 ": " $4 " us, " $2 " as it is" }'

# both files that the limited server's children wrote, loaded without quire
cp "$work/limited_tree.dir/snapshot.rdb" "$work/plain.dir/dump.rdb"
server plain snapshot --save ''
rm -rf "$work/plain_tree.dir"
mv "$work/limited_tree.dir" "$work/plain_tree.dir"
server plain_tree aof "${saves[@]:1}"
tail -n 2 "$work/limited_tree.saves" | cmp - "$work/plain_tree.aof" || fail "the log differs"
