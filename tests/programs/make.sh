# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# make -j4: compilers that start, grow, fit or not, and end, all under one limit.  The
# project is Debian's source package of jemalloc, which the build has fetched.
. "$(dirname "$0")/lib.sh"
need gcc make dpkg-source

package=$(echo "$QUIRE_BUILD"/deps/download/jemalloc_*.dsc)
[ -f "$package" ] || fail "no source package of jemalloc in QUIRE_BUILD; run: make"
dpkg-source --no-check -x "$package" "$work/src" >"$work/unpack.log" 2>&1 || fail "cannot unpack $package"
(cd "$work/src" && ./configure --disable-cxx) >"$work/configure.log" 2>&1 || fail "configure: $(tail -n 3 "$work/configure.log")"

# the largest files, of which its makefile reads the symbols first; or the library
mapfile -t what < <(by_size "$(cd "$work/src" && ls -S src/*.c | head -n 8 | sed 's/c$/sym.o/')" lib/libjemalloc.a)

# Here only, because the paths are in the debug information.
compare_tree sh -ec '
	cd "$0"
	rm -f src/*.o src/*.d lib/*
	make -s -j4 "$@"
	sha256sum src/*.o' "$work/src" "${what[@]}"
