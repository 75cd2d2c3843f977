# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# cc1 -O2: a garbage-collected heap made by mmap; the driver uses vfork and exec.
. "$(dirname "$0")/lib.sh"
need gcc python3

gen c "$(by_size 400 2000)" 1 >"$work/in.c"
# the collector's pace must not depend on the machine
compare -c cc1 -- gcc -O2 -S -o - --param ggc-min-heapsize=65536 --param ggc-min-expand=100 \
	"$work/in.c"
