#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a failed scenario prints is an argument list that fails in the same way at once,
# and says where each thread stopped.
set -euo pipefail
program=$QUIRE_BUILD/tests/race_test_sync

"$program" --mutant mutex_forgets_sleepers I4_mutex >found 2>&1 && exit 1
again=$(sed -n 's/^# again: //p' found)
case $again in
"I4_mutex --mutant mutex_forgets_sleepers --replay "*) ;;
*) cat found; exit 1 ;;
esac
eval "set -- $again"
name=$1
shift
"$program" "$@" "$name" >replayed 2>&1 && exit 1
how() { # without what differs from run to run
	sed -n '/^not ok/,$p' "$1" | sed -E 's/^# \S+: //; s/, word 0x[0-9a-f]+//g'
}
diff <(how found) <(how replayed)
grep -q '^ *[0-9]*: thread [0-9]* stops at code 0x.* (schedule)$' replayed
# With its guard the same scenario passes.
"$program" I4_mutex >passed 2>&1
