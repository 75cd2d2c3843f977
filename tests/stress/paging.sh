#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# paging.sh - each way to walk through memory of bench/paging.c, by two threads, each
# access verified: as it is, under quire, in libquire, with and without compressed
# memory.  Pages must really have come back.  And the benchmark's tables and picture of
# results that are known.
# time: 300
# paging
set -uo pipefail

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/quire-paging.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export QUIRE_SWAP_DIR=$tmp
failed=0
nr=0

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $nr - $1"
	else
		failed=1
		echo "not ok $nr - $1 (status $2)"
	fi
}

walk() { # PROGRAM WORK [OPTION]...
	local program=$1 work=$2
	shift 2
	timeout 60 "$build/bench/$program" --data 16M --seconds 0.1 --threads 2 --work "$work" "$@"
}

paged() { # FILE: its refaults are some
	local n
	n=$(grep -o 'workingset_refault_anon["=: ]*[0-9]*' "$1" | grep -o '[0-9]*$')
	[ "${n:-0}" -gt 0 ]
}

# after a fill nothing comes back
comes_back() { # WORK FILE
	[ "$1" = fill ] || paged "$2"
}

# as it is once more, or refused by its options: no signal mode here
signal=(--signal)
walk paging-lib fill --max 12M --signal >/dev/null 2>"$tmp/why"
if [ $? -eq 77 ]; then
	cat "$tmp/why"
	signal=()
fi
for work in read write zipf scan stride chase phase record fill; do
	walk paging "$work" >"$tmp/out"
	verdict "$work" $?
	for way in '' '--zswap-max 0'; do
		# shellcheck disable=SC2086  # none or two words
		"$build/quire" run --max 12M $way --stats=json --stats-file "$tmp/stats" -- \
			"$build/bench/paging" --data 16M --seconds 0.1 --threads 2 --work "$work" \
			>"$tmp/out" && comes_back "$work" "$tmp/stats"
		verdict "$work under quire $way" $?
	done
	for way in '' --store "${signal[@]}"; do
		# shellcheck disable=SC2086  # none or one word
		walk paging-lib "$work" --max 12M $way >"$tmp/out" && comes_back "$work" "$tmp/out"
		verdict "$work in libquire $way" $?
	done
done

result() { # BACKEND OPS_S REFAULTS
	printf '{"result": {"rival": "zswap", "work": "read", "kind": "heap", "factor": 2.0,
		"threads": 1, "backend": "%s", "round": 1, "resident": "8M",
		"kills": 0, "memory": 12582912, "ops": 1000, "ops_all": 2000, "ops_s": %s,
		"p50_us": 1, "p99_us": 10, "p999_us": 20, "max_us": 40, "cpu_s": 0.1,
		"workingset_refault_anon": %s, "refaults_timed": 500}}' "$@" | tr -d '\n'
	echo
}
{
	echo '{"facts": ["machine: known"], "ratios": {"heap": 1.8}}'
	result zswap 1000 1000
	result run 2000 500
} >"$tmp/raw"
"$root/bench/paging" --report --raw "$tmp/raw" --svg "$tmp/svg" >"$tmp/tables"
verdict 'tables of known results' $?
grep -q 'read heap 2x, 1 thread: throughput | 1.6x | 2.5x | 2.00 met |' "$tmp/tables"
verdict 'a target that is met' $?
grep -q '| quire run | 2.0k +-0 % | 2.00 |.*| 100.0 | 12 | 0.25 | 0 |' "$tmp/tables"
verdict 'the row of a cell' $?
python3 -c 'import sys, xml.etree.ElementTree as tree
text = "".join(tree.parse(sys.argv[1]).getroot().itertext())
sys.exit("random reads" not in text or "2.00" not in text)' "$tmp/svg"
verdict 'the picture' $?
echo "1..$nr"
exit $failed
