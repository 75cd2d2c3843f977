#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# dlopen.sh - libquire can be loaded late, by a program that knows nothing of it:
# Python loads it with ctypes, makes a group with a limit, maps three times as
# much, fills it, and finds every byte again.  libquire needs libc only.
#
# paging
# time: 120
set -euo pipefail

root=${QUIRE_ROOT:-$PWD}
build=${QUIRE_BUILD:-$root/build}

lib=$build/libquire.so.0
command -v python3 >/dev/null || {
	echo "SKIP: no python3"
	exit 77
}

needed=$(readelf -dW "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' | grep -v '^ld-linux' | sort -u)
if [ "$needed" != libc.so.6 ]; then
	echo "libquire needs more than libc: $needed"
	exit 1
fi
if readelf -dW "$lib" | grep -q STATIC_TLS; then
	echo "libquire has static TLS: it cannot be loaded late"
	exit 1
fi
exported=$(nm -D --defined-only "$lib" | awk '{ print $3 }' | grep -v -e '^quire_' -e '^QUIRE_' || true)
if [ -n "$exported" ]; then
	echo "libquire exports $exported"
	exit 1
fi

python3 - "$lib" <<'PYTHON'
import ctypes, os, sys

MIB = 1 << 20
q_lib = ctypes.CDLL(sys.argv[1])
q_lib.quire_why.restype = ctypes.c_char_p
q_lib.quire_root.restype = ctypes.c_void_p
q_lib.quire_root.argtypes = [ctypes.c_void_p]
for name in ("quire_current", "quire_peak", "quire_swap_current"):
    getattr(q_lib, name).restype = ctypes.c_uint64
    getattr(q_lib, name).argtypes = [ctypes.c_void_p]

def check(result, what):
    if result < 0:
        sys.exit("%s: %d: %s" % (what, result, q_lib.quire_why().decode()))

def call(name, *args):
    check(getattr(q_lib, name)(*args), name)

threads = len(os.listdir("/proc/self/task"))
q, group, addr = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
call("quire_open", None, ctypes.byref(q))
assert len(os.listdir("/proc/self/task")) == threads, "a thread before it is needed"
call("quire_group_create", ctypes.c_void_p(q_lib.quire_root(q)), b"late", ctypes.byref(group))
call("quire_write", group, b"memory.max", b"16M")
size = 48 * MIB
call("quire_map", group, ctypes.c_size_t(size), 0, ctypes.byref(addr))

# Pages that differ, compress and can be told from their number.
page = lambda n: (b"page %08d of a late library. " % n * 200)[:4096]
for n in range(size // 4096):
    ctypes.memmove(addr.value + n * 4096, page(n), 4096)
out = q_lib.quire_swap_current(group)
assert out >= size // 2, "only %d bytes are out" % out
assert q_lib.quire_peak(group) <= 16 * MIB + MIB, "over the limit"
for n in reversed(range(size // 4096)):
    if ctypes.string_at(addr.value + n * 4096, 4096) != page(n):
        sys.exit("page %d differs" % n)
# The system reads and writes paged-out memory like any other.
r, w = os.pipe()
view = (ctypes.c_char * size).from_address(addr.value)
os.write(w, memoryview(view)[:4096])
assert os.read(r, 4096) == page(0)
del view
call("quire_unmap", q, addr, ctypes.c_size_t(size))
assert q_lib.quire_swap_current(group) == 0, "slots are left"
call("quire_group_remove", group)
q_lib.quire_close(q)
print("ok: %d bytes through a limit of 16 MiB" % size)
PYTHON
