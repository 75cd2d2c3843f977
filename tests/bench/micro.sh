#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/bench/micro.sh - no step takes over 3 % more instructions than its budget.
#
# bench/micro says which steps, bench/micro.budget how many.  Against a budget of half
# of that each must be found too large, or the comparison sees nothing.  Skipped
# without valgrind, and with another compiler or libc than the budget's.
# paging
set -uo pipefail

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
smaller=$(mktemp)
trap 'rm -f "$smaller"' EXIT

"$root/bench/micro" --check || exit
awk '!/^#/ { $2 *= 0.5 } { print }' "$root/bench/micro.budget" >"$smaller"
said=$("$root/bench/micro" --check --budget "$smaller")
if [ $? -ne 1 ] || [ "$(grep -c '% over it$' <<<"$said")" -ne "$(grep -c '^[^#]' "$smaller")" ]; then
	echo "twice the budget was not noticed:"
	echo "$said"
	exit 1
fi
