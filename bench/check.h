/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h - a call of libquire that must work.
 */
#ifndef QUIRE_BENCH_CHECK_H
#define QUIRE_BENCH_CHECK_H

#include <err.h>
#include <quire/quire.h>

static inline void check(int error)
{
	if (error < 0)
		errx(1, "%s", quire_why());
}

#endif
