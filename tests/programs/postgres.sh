# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# PostgreSQL 15, as an ordinary user: what a server process sorts and hashes is its own
# memory (what they share is not quire's).  pgbench's transactions beside queries whose
# result is known; afterwards the balances must add up.
. "$(dirname "$0")/lib.sh"
export PATH=$PATH:/usr/lib/postgresql/15/bin
need postgres initdb pgbench psql setpriv

node=/dev/userfaultfd
if [ "$(id -u)" = 0 ]; then
	# nobody may use what lies here, and page
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups --)
	mode=$(stat -c %a $node) || fail "no $node"
	trap 'chmod "$mode" $node; rm -rf "$work"' EXIT
	chmod 666 $node
	cp "$QUIRE" "$QUIRE_BUILD/libquire-preload.so" "$work"
	QUIRE=$work/quire
	chown 65534 "$work"
fi
export XDG_RUNTIME_DIR=$work PGHOST=$work PGUSER=quire PGDATABASE=postgres

# Two aggregates over a hash table and a sort that fit in work_mem; an error if one is wrong.
cat >"$work/large.sql" <<'SQL'
SELECT 1 / (count(*) = 100000 AND sum(n) = 500000)::int FROM
	(SELECT md5((i % 100000)::text) AS key, count(*) AS n FROM generate_series(1, 500000) i
	GROUP BY key) AS hashed;
SELECT 1 / (count(*) = 200000 AND sum(CASE WHEN key < before THEN 1 ELSE 0 END) = 0)::int FROM
	(SELECT key, lag(key) OVER (ORDER BY key) AS before FROM
	(SELECT md5(i::text) AS key FROM generate_series(1, 200000) i) AS keys) AS sorted;
SQL

# client HOW: both kinds of transactions, then the sums; then the server ends.
client() {
	local i

	for i in $(seq 600); do
		pg_isready -q && break
		sleep 0.1
	done
	pgbench -q -i -s "$(by_size 2 20)" &&
		pgbench -n -c 4 -j 2 -T "$(by_size 8 60)" -b tpcb-like@20 -f "$work/large.sql@1" &&
		psql -At <<'SQL' >"$work/$1.out"
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = sum(delta),
	(SELECT sum(bbalance) FROM pgbench_branches) = sum(delta),
	(SELECT sum(tbalance) FROM pgbench_tellers) = sum(delta), count(*) > 0
FROM pgbench_history;
SELECT count(*), sum(aid) FROM pgbench_accounts;
SQL
	kill "$(head -n 1 "$work/$1.data/postmaster.pid")"
}

# server plain|limited
server() {
	local rc=0 data=$work/$1.data

	"${as[@]}" initdb -D "$data" -U quire -A trust -N --no-locale -E UTF8 >"$work/$1.initdb" 2>&1 ||
		fail "initdb: $(tail -n 3 "$work/$1.initdb")"
	client "$1" >"$work/$1.pgbench" 2>&1 &
	"$1_tree" postgres -D "$data" -k "$work" -h '' -c work_mem=128MB \
		-c shared_buffers=32MB -c jit=off -c max_parallel_workers_per_gather=0 >"$work/$1.log" 2>&1 || rc=$?
	wait $!
	[ $rc = 0 ] || fail "$1: exit status $rc: $(tail -n 5 "$work/$1.log")"
	! grep -E 'ERROR|FATAL|PANIC|terminated|quire:' "$work/$1.log" "$work/$1.pgbench" || fail "$1: errors"
	grep -qx 't|t|t|t' "$work/$1.out" || fail "$1: the balances do not add up: $(cat "$work/$1.out" "$work/$1.pgbench")"
}

server plain
if [ "$MEASURE" = 1 ]; then
	measured
	exit 0
fi
server limited
cmp "$work/plain.out" "$work/limited.out" || fail "the tables differ"
check_tree
echo "$NAME: $(awk '/^tps/ { print $3 }' "$work/limited.pgbench") transactions a second," \
	"$(awk '/^tps/ { print $3 }' "$work/plain.pgbench") as it is"
