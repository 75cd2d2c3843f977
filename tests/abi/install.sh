#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What `make install` puts down is enough to build and run C and C++ programs,
# shared and static, with nothing but pkg-config; and the static library can be
# linked beside a program's own lz4.
set -euo pipefail
dest=$TMPDIR/dest
DESTDIR=$dest meson install -C "$QUIRE_BUILD" --no-rebuild >install.log || {
	cat install.log
	exit 1
}
pc=$(find "$dest" -name quire.pc)
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$dest
libdir=$dest$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=libdir quire)

cat >program.c <<'END'
#include <quire/quire.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	puts(quire_version());
	return strcmp(quire_version(), QUIRE_VERSION) != 0;
}
END
cat >own-lz4.c <<'END'
#include <quire/quire.h>
#include <stdio.h>

const char *LZ4_versionString(void);
const char *LZ4_versionString(void)
{
	return "mine";
}

int main(void)
{
	puts(LZ4_versionString());
	return LZ4_versionString()[0] != 'm' || !quire_version();
}
END
read -ra flags < <(pkg-config --cflags --libs quire)
gcc -Wall -Werror program.c -o c "${flags[@]}"
g++ -Wall -Werror -x c++ program.c -x none -o cxx "${flags[@]}"
gcc -Wall -Werror program.c -o static $(pkg-config --cflags quire) "$libdir/libquire.a"
gcc -Wall -Werror own-lz4.c -o own $(pkg-config --cflags quire) "$libdir/libquire.a"
for program in c cxx static own; do
	LD_LIBRARY_PATH=$libdir "./$program"
done

# The installed command finds what it needs where it was installed.
"$dest$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=prefix quire)/bin/quire" --version
[ -f "$libdir/quire/libquire-preload.so" ]
[ "$(readlink "$libdir/libquire.so")" = libquire.so.0 ]
