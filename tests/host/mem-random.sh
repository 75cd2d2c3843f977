#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mem-random.sh [SEED...] - random memory calls (mem_random.c), as they are and in a
# third of the memory they use: every call says the same, every byte is as the model
# has it, and pages really went out.  Then calls whose results depend on where the
# kernel's mappings end, judged by the model alone.
# time: 300
# paging
set -uo pipefail

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
[ $# -gt 0 ] || set -- 1 2 3 4 5
ops=10000
failed=0
nr=0

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	[ "$2" -eq 0 ] || { failed=1; printf 'not '; }
	echo "ok $nr - $1"
}

limited() { # ARG...
	timeout 100 "$build/quire" run --max 12M --stats=json --stats-file "$tmp/stats" -- \
		"$build/tests/host_mem_random" "$@"
}

for seed; do
	"$build/tests/host_mem_random" "$seed" $ops >"$tmp/plain" || exit 1
	limited "$seed" $ops >"$tmp/limited"
	status=$?
	diff "$tmp/plain" "$tmp/limited" | head -n 5
	[ $status -eq 0 ] && cmp -s "$tmp/plain" "$tmp/limited"
	verdict "seed $seed: $ops calls, the same results and bytes" $?
	limited "$seed" 3000 mixed
	verdict "seed $seed: calls over several mappings" $?
done

# The judge is worth something only if pages were out.
python3 - "$tmp/stats" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
def find(node, key):
    if isinstance(node, dict):
        for k, v in node.items():
            if k == key and isinstance(v, (int, float)):
                return v
            found = find(v, key)
            if found is not None:
                return found
    return None
out = find(report, "pswpout") or find(report, "zswpout")
print("paged out:", out)
sys.exit(0 if out and out > 1000 else 1)
PYTHON
verdict 'more than 1000 pages went out' $?
echo "1..$nr"
exit $failed
