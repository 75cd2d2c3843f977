#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# headers.sh - the public headers: each compiles alone, as C99 and as C++, with
# all warnings; everything they declare is exported, and nothing else is.
set -uo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}
tmp=$(mktemp -d)

status=0

for header in "$root"/include/quire/*.h; do
	name=quire/$(basename "$header")
	printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$name" "$name" \
		>"$tmp/one.c"
	cp "$tmp/one.c" "$tmp/one.cpp"
	gcc -std=c99 -pedantic -Wall -Wextra -Werror -I"$root/include" -fsyntax-only "$tmp/one.c" ||
		status=1
	g++ -std=c++11 -pedantic -Wall -Wextra -Werror -I"$root/include" -fsyntax-only "$tmp/one.cpp" ||
		status=1
done

cat "$root"/include/quire/*.h | gcc -fpreprocessed -dD -E -P - 2>/dev/null |
	grep -Eo '\bquire_[a-z0-9_]+ *\(' | tr -d ' (' | grep -v '_fn$' | sort -u >"$tmp/declared"
nm -D --defined-only "$build/libquire.so.0" | awk '{ sub(/@.*/, "", $3); print $3 }' |
	grep '^quire_' | sort -u >"$tmp/exported"
if ! diff "$tmp/declared" "$tmp/exported" >"$tmp/diff"; then
	echo "declared (<) and exported (>) functions differ:"
	cat "$tmp/diff"
	status=1
fi

exit $status
