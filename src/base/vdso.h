/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdso.h - clock_gettime(2), getcpu(2) without entering the kernel.  For os.c.
 */
#ifndef QUIRE_BASE_VDSO_H
#define QUIRE_BASE_VDSO_H

#include <time.h>

#include "base/types.h"

/* 0, or -ENOSYS where the kernel maps no vDSO.  Any thread, any context. */
int vdso_clock_gettime(int clock, struct timespec *ret_ts);
int vdso_getcpu(unsigned *ret_cpu);

#endif
