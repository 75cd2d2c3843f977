# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# zstd --ultra -22: tables of hundreds of megabytes, walked at random.
. "$(dirname "$0")/lib.sh"
need zstd python3

# every byte costs a walk through a tree: where time is short, long matches
gen "$(by_size copies files)" $(($(by_size 3 100) << 20)) 2 >"$work/in"
compare -- zstd -q --ultra -22 --single-thread -c "$work/in"
zstd -dc "$work/plain.out" | cmp - "$work/in" || fail "zstd does not give the input back"
