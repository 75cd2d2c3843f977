# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# nginx: a master that reads a large map and forks four workers, which give up root
# without an exec; each has memory of its own as well (16,384 connections).
. "$(dirname "$0")/lib.sh"
need nginx wrk curl python3

keys=$(by_size 40000 400000)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/nginx.conf" <<CONF
daemon off; worker_processes 4; pid $work/pid;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
	access_log off;
	map_hash_max_size 1048576; map_hash_bucket_size 512;
	map \$arg_key \$value { default none; include values; }
	server { listen 127.0.0.1:$port; location / { return 200 "\$arg_key \$value\n"; } }
}
CONF
# The value of a key is numbers that Lua, too, can work out.
cat >"$work/values.py" <<'PY'
import sys
for key in range(int(sys.argv[1])):
    print('%d "%s";' % (key, "".join("%d-" % (key * 7919 * i % 1000003) for i in range(1, 41))))
PY
python3 "$work/values.py" "$keys" >"$work/values"
cat >"$work/random.lua" <<LUA
request = function()
	return wrk.format("GET", "/?key=" .. math.random(0, $keys - 1))
end
response = function(status, headers, body)
	local key = tonumber(body:match("^(%d+) ")) or -1
	local value = {}
	for i = 1, 40 do
		value[i] = ("%d-"):format(key * 7919 * i % 1000003)
	end
	if body ~= key .. " " .. table.concat(value) .. "\n" then
		print("wrong: " .. status .. " " .. body)
	end
end
LUA

# client HOW: what is asked of the server; then it ends.
client() {
	local url="http://127.0.0.1:$port/?key="

	curl -s --retry 200 --retry-delay 1 --retry-connrefused "${url}0" &&
		wrk -t 2 -c 16 -d "$(by_size 4 20)" --timeout 30 -s "$work/random.lua" "$url" >"$work/$1.wrk" &&
		curl -s "$url[0-$((keys - 1)):97]"
	kill -QUIT "$(cat "$work/pid")"
}

# server plain|limited
server() {
	local rc=0

	client "$1" >"$work/$1.out" 2>"$work/$1.err" &
	"$1_tree" nginx -e stderr -p "$work" -c "$work/nginx.conf" >"$work/$1.log" 2>&1 || rc=$?
	wait $! || fail "$1: $(tail -n 3 "$work/$1.err" "$work/$1.log")"
	[ $rc = 0 ] || fail "$1: exit status $rc: $(tail -n 5 "$work/$1.log")"
	! grep -E 'wrong|Socket errors|Non-2xx' "$work/$1.wrk" || fail "$1: answers"
	! grep -v notice "$work/$1.log" || fail "$1: said something"
}

server plain
if [ "$MEASURE" = 1 ]; then
	measured
	exit 0
fi
server limited
same
check_tree
echo "$NAME: $(awk '/Requests.sec/ { print $2 }' "$work/limited.wrk") requests a second," \
	"$(awk '/Requests.sec/ { print $2 }' "$work/plain.wrk") as it is"
