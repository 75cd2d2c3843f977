# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# sort(1), buffers of malloc, two threads: random access by pointer into text.
. "$(dirname "$0")/lib.sh"
need sort python3

# few long lines where time is short: comparing is one access at random each
gen "$(by_size wide text)" $(($(by_size 32 256) << 20)) 1 >"$work/in"
compare -- sort -S 512M --parallel=2 -T "$work" "$work/in"
