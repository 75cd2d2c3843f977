# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# xz -9: hash chains and binary trees over the input, the hardest access pattern.
. "$(dirname "$0")/lib.sh"
need xz python3

gen files $(($(by_size 1 100) << 20)) 1 >"$work/in"
compare -- xz -9 -T1 -c "$work/in"
xz -dc "$work/plain.out" | cmp - "$work/in" || fail "xz does not give the input back"
