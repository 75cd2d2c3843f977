#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# mem-malloc.sh - malloc's family (mem_malloc.c) as it is, under quire, and under
# quire with libc's allocator; and programs that free what was allocated before any
# constructor ran.
# time: 200
# paging
set -uo pipefail

root=${QUIRE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
nr=0

verdict() { # TEXT STATUS
	nr=$((nr + 1))
	[ "$2" -eq 0 ] || { failed=1; printf 'not '; }
	echo "ok $nr - $1"
}

timeout 60 "$build/tests/host_mem_malloc"
verdict 'as it is' $?
timeout 60 "$build/quire" run --max 32M -- "$build/tests/host_mem_malloc" --quire
verdict 'under quire' $?
timeout 60 "$build/quire" run --max 32M --malloc=none -- "$build/tests/host_mem_malloc"
verdict 'under quire, --malloc=none' $?

# A library that allocates while the loader still binds symbols (its resolver runs
# before every constructor), and frees, grows and measures the block in main().  Not for
# jemalloc: the loader has not made its thread-local storage by then.
cat >"$tmp/early.c" <<'C'
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
char *early;
static int answer(void) { return 42; }
static int (*resolve(void))(void)
{
	early = malloc(100);
	strcpy(early, "early");
	return answer;
}
int early_answer(void) __attribute__((ifunc("resolve")));
C
cat >"$tmp/main.c" <<'C'
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
extern char *early;
int early_answer(void);
int main(void)
{
	if (!early || early_answer() != 42 || malloc_usable_size(early) < 100)
		return 1;
	early = realloc(early, 100000);
	if (strcmp(early, "early"))
		return 2;
	free(early);
	return 0;
}
C
cc -shared -fPIC -o "$tmp/libearly.so" "$tmp/early.c" -Wl,-z,now &&
	cc -o "$tmp/main" "$tmp/main.c" "$tmp/libearly.so" -Wl,-rpath,"$tmp" -Wl,-z,now || exit 1
timeout 60 "$build/quire" run --max 32M --malloc=none -- "$tmp/main"
verdict 'a block from before the constructors, --malloc=none' $?
"$tmp/main"
verdict 'the same as it is' $?
echo "1..$nr"
exit $failed
