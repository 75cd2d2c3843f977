#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tenants.sh - the example program on real text: eight tenants with limits far
# below what they need print what an unlimited run prints.
#
# paging
# time: 300
set -euo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)

tenants=$build/examples/tenants

# Text that is on every Debian system: licences, this tree, and enough of it.
mapfile -t files < <(find /usr/share/common-licenses /usr/share/perl /usr/lib/python3 "$root/src" -type f \
	-size +8k -size -2000k 2>/dev/null | sort | head -400)
if [ ${#files[@]} -lt 16 ]; then
	echo "SKIP: no text on this system"
	exit 77
fi
"$tenants" --unlimited "${files[@]}" >"$tmp/unlimited"
"$tenants" --limit 2M --stats "${files[@]}" >"$tmp/limited" 2>"$tmp/stats"
cat "$tmp/stats"
cmp "$tmp/unlimited" "$tmp/limited"
[ "$(wc -l <"$tmp/limited")" -eq 8 ]
awk '{ if ($5 > 2048 + 256) { print "over its limit: " $0; bad = 1 } } END { exit bad }' "$tmp/stats"
awk '{ out += $9 } END { if (out < 1024) { print "nothing was paged out"; exit 1 } }' "$tmp/stats"
